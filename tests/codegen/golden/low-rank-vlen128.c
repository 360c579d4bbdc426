/* y [1, 40] from x [1, 64], 40x1 / 1x64, ranks 8.
 * order 1,0; stream m2 x2 | stream m8 x2; 4 lanes. */
#include <stddef.h>

/* One instruction each, in the order written here: what overlaps on an in-order core is decided by this order.
   c and b are names of vector registers, f and p expressions. */
#define SET_VL(vl, lmul) __asm__ volatile("vsetvli x0, %0, e32, " #lmul ", ta, ma" ::"r"(vl))
#define LOAD_SCALAR(f, p) __asm__ volatile("flw %0, %1" : "=f"(f) : "m"(*(p)))
#define LOAD_VECTOR(b, p) __asm__ volatile("vle32.v " #b ", %0" ::"A"(*(p)) : #b)
#define LOAD_STRIDED(b, p, s) __asm__ volatile("vlse32.v " #b ", %0, %1" ::"A"(*(p)), "r"(s) : #b)
#define STEP(p, bytes) __asm__ volatile("add %0, %0, %1" : "+r"(p) : "rI"((long)(bytes)))
#define MULTIPLY(c, f, b) __asm__ volatile("vfmul.vf " #c ", " #b ", %0" ::"f"(f) : #c)
#define MULTIPLY_ADD(c, f, b) __asm__ volatile("vfmacc.vf " #c ", %0, " #b ::"f"(f) : #c)
#define ADD(c, b) __asm__ volatile("vfadd.vv " #c ", " #c ", " #b ::: #c)
/* Bounds as integers: vfmax and vfmin drop a NaN. Sums are canonical NaNs, the largest of all as signed integers; with
   that taken off, a NaN is 0, below 0 are positive integers, and all others lie above them as unsigned ones. */
#define TAKE_OFF_NAN(c) __asm__ volatile("vadd.vx " #c ", " #c ", %0" ::"r"(-0x7fc00000L) : #c)
#define PUT_ON_NAN(c) __asm__ volatile("vadd.vx " #c ", " #c ", %0" ::"r"(0x7fc00000L) : #c)
#define AT_LEAST(c, bits) __asm__ volatile("vmax.vx " #c ", " #c ", %0" ::"r"((long)(bits)) : #c)
#define AT_LEAST_BELOW_0(c, bits) __asm__ volatile("vmin.vx " #c ", " #c ", %0" ::"r"((bits) - 0x7fc00000L) : #c)
#define AT_MOST(c, bits) __asm__ volatile("vminu.vx " #c ", " #c ", %0" ::"r"((bits) - 0x7fc00000L) : #c)
#define STORE_VECTOR(c, p) __asm__ volatile("vse32.v " #c ", %0" ::"A"(*(p)) : "memory")
#define STORE_STRIDED(c, p, s) __asm__ volatile("vsse32.v " #c ", %0, %1" ::"A"(*(p)), "r"(s) : "memory")

/* Widening. Vector lengths are set for single precision; what is narrower has as many elements in fewer registers. */
#define SET_WIDE(vl, lmul) __asm__ volatile("vsetvli x0, %0, e32, " #lmul ", ta, ma" ::"r"((size_t)(vl)))
#define AS_WIDE(lmul) __asm__ volatile("vsetvli x0, x0, e32, " #lmul ", ta, ma")
#define AS_HALF(lmul) __asm__ volatile("vsetvli x0, x0, e16, " #lmul ", ta, ma")
#define LOAD_BYTES(b, p) __asm__ volatile("vle8.v " #b ", (%0)" ::"r"(p) : "memory", #b)
#define LOAD_HALVES(b, p) __asm__ volatile("vle16.v " #b ", (%0)" ::"r"(p) : "memory", #b)
#define LOAD_FLOATS(b, p) __asm__ volatile("vle32.v " #b ", (%0)" ::"r"(p) : "memory", #b)
#define STORE_FLOATS(b, p) __asm__ volatile("vse32.v " #b ", (%0)" ::"r"(p) : "memory")
#define EXTEND_2(c, b) __asm__ volatile("vzext.vf2 " #c ", " #b ::: #c)
#define EXTEND_4(c, b) __asm__ volatile("vzext.vf4 " #c ", " #b ::: #c)
#define EXTEND_SIGN_2(c, b) __asm__ volatile("vsext.vf2 " #c ", " #b ::: #c)
#define LOW_NIBBLE(c, b) __asm__ volatile("vand.vi " #c ", " #b ", 15" ::: #c)
#define HIGH_NIBBLE(c, b) __asm__ volatile("vsrl.vi " #c ", " #b ", 4" ::: #c)
#define SHIFT_LEFT(c, n) __asm__ volatile("vsll.vi " #c ", " #c ", " #n ::: #c)
#define MASK(c, bits) __asm__ volatile("vand.vx " #c ", " #c ", %0" ::"r"((long)(int)(bits)) : #c)
#define SET_BITS(c, bits) __asm__ volatile("vor.vx " #c ", " #c ", %0" ::"r"((long)(int)(bits)) : #c)
#define SUBTRACT(c, f) __asm__ volatile("vfsub.vf " #c ", " #c ", %0" ::"f"(f) : #c)
#define SCALE(c, f) __asm__ volatile("vfmul.vf " #c ", " #c ", %0" ::"f"(f) : #c)
#define SCALE_EACH(c, b) __asm__ volatile("vfmul.vv " #c ", " #c ", " #b ::: #c)
#define BITS(c, b, mask) __asm__ volatile("vand.vx " #c ", " #b ", %0" ::"r"(mask) : #c)
#define BITS_FROM(c, b, n) __asm__ volatile("vsrl.vi " #c ", " #b ", " #n ::: #c)
#define KEEP(constant) __asm__("" : "+r"(constant))
#define HALF_LESS(c, b, f) __asm__ volatile("vfwsub.vf " #c ", " #b ", %0" ::"f"(f) : #c)
#define HALF_TIMES(c, b, f) __asm__ volatile("vfwmul.vf " #c ", " #b ", %0" ::"f"(f) : #c)

/* What half precision bits stand for: their exponent counts from 2^-112 times as far down. */
static inline __attribute__((unused)) float half_to_float(unsigned short half)
{
  const unsigned bits = (unsigned)(half & 0x7fff) << 13 | (unsigned)(half & 0x8000) << 16;
  const union { unsigned bits; float value; } moved = {bits}, scale = {0x77800000u};
  return moved.value * scale.value;
}

/* Streams. */
#define LOAD_HALF(f, p) __asm__ volatile("flh %0, %1" : "=f"(f) : "m"(*(p)))
#define HALF_MULTIPLY(c, f, b) __asm__ volatile("vfwmul.vf " #c ", " #b ", %0" ::"f"(f) : #c)
#define HALF_MULTIPLY_ADD(c, f, b) __asm__ volatile("vfwmacc.vf " #c ", %0, " #b ::"f"(f) : #c)
#define MULTIPLY_ADD_EACH(c, a, b) __asm__ volatile("vfmacc.vv " #c ", " #a ", " #b ::: #c)
#define TAKE_OFF(c, f, b) __asm__ volatile("vfnmsac.vf " #c ", %0, " #b ::"f"(f) : #c)
#define TIMES(c, f, b) __asm__ volatile("vfmul.vf " #c ", " #b ", %0" ::"f"(f) : #c)
#define TIMES_EACH(c, a, b) __asm__ volatile("vfmul.vv " #c ", " #a ", " #b ::: #c)
#define CLEAR(c) __asm__ volatile("vmv.v.i " #c ", 0" ::: #c)

/* States in half precision, in one pass. */
#define LARGEST_BITS(c, b) __asm__ volatile("vmax.vv " #c ", " #c ", " #b ::: #c)
#define LARGEST_BITS_BELOW_0(c, b) __asm__ volatile("vmaxu.vv " #c ", " #c ", " #b ::: #c)
#define REDUCE_BITS(c, b) __asm__ volatile("vredmax.vs " #c ", " #b ", " #c ::: #c)
#define REDUCE_BITS_BELOW_0(c, b) __asm__ volatile("vredmaxu.vs " #c ", " #b ", " #c ::: #c)
#define BITS_TO(x, b) __asm__ volatile("vmv.x.s %0, " #b : "=r"(x))
#define HALF_SUM(c, b, start) __asm__ volatile("vfwredusum.vs " #c ", " #b ", " #start ::: #c)
#define ADD_HALVES(c, b) __asm__ volatile("vfwadd.wv " #c ", " #c ", " #b ::: #c)
#define TO_HALF(c, b) __asm__ volatile("vfncvt.f.f.w " #c ", " #b ::: #c)
#define STORE_HALVES(b, p) __asm__ volatile("vse16.v " #b ", (%0)" ::"r"(p) : "memory")

/* States in half precision. */
#define LARGER(c, b) __asm__ volatile("vfmax.vv " #c ", " #c ", " #b ::: #c)
#define SMALLER(c, b) __asm__ volatile("vfmin.vv " #c ", " #c ", " #b ::: #c)
#define FIRST_FROM(c, f) __asm__ volatile("vfmv.s.f " #c ", %0" ::"f"(f) : #c)
#define FIRST_TO(f, b) __asm__ volatile("vfmv.f.s %0, " #b : "=f"(f))
#define LARGEST(c, b) __asm__ volatile("vfredmax.vs " #c ", " #b ", " #c ::: #c)
#define LEAST(c, b) __asm__ volatile("vfredmin.vs " #c ", " #b ", " #c ::: #c)
#define SUM(c, b) __asm__ volatile("vfredusum.vs " #c ", " #b ", " #c ::: #c)
#define MAXIMUM(f, g) __asm__ volatile("fmax.s %0, %0, %1" : "+f"(f) : "f"(g))
#define MINIMUM(f, g) __asm__ volatile("fmin.s %0, %0, %1" : "+f"(f) : "f"(g))
#define SINGLE(f, h) __asm__ volatile("fcvt.s.h %0, %1" : "=f"(f) : "f"(h))
#define ROUND_TO_HALF(f) __asm__ volatile("fcvt.h.s %0, %0" : "+f"(f))
#define STORE_HALF(f, p) __asm__ volatile("fsh %0, %1" ::"f"(f), "m"(*(p)) : "memory")
#define SET_HALF(vl, lmul) __asm__ volatile("vsetvli x0, %0, e16, " #lmul ", ta, ma" ::"r"((size_t)(vl)))


/* Panels of 8 rows, 64 vectors of codes each. */
static void stream_1a(const float *x0, const unsigned char *panel, float *out, size_t count)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  const float *x = x0;
  const unsigned char *p = panel;
  (void)x;
  SET_WIDE(8, m2);
  LOAD_FLOATS(v4, p);
  STEP(p, 32);
  LOAD_FLOATS(v6, p);
  STEP(p, 32);
  LOAD_FLOATS(v8, p);
  STEP(p, 32);
  LOAD_FLOATS(v10, p);
  STEP(p, 32);
  LOAD_FLOATS(v12, p);
  STEP(p, 32);
  LOAD_FLOATS(v14, p);
  STEP(p, 32);
  LOAD_FLOATS(v16, p);
  STEP(p, 32);
  LOAD_FLOATS(v18, p);
  STEP(p, 32);
  for (size_t left = count - 1;; left--) {
    const unsigned char *next = left ? panel + 2048 : panel;
    x = x0;
    LOAD_SCALAR(f0, x);
    LOAD_SCALAR(f1, x + 1);
    LOAD_SCALAR(f2, x + 2);
    LOAD_SCALAR(f3, x + 3);
    LOAD_SCALAR(f4, x + 4);
    LOAD_SCALAR(f5, x + 5);
    MULTIPLY(v0, f0, v4);
    LOAD_SCALAR(f6, x + 6);
    LOAD_FLOATS(v4, p);
    STEP(p, 32);
    MULTIPLY(v2, f1, v6);
    LOAD_SCALAR(f7, x + 7);
    LOAD_FLOATS(v6, p);
    STEP(p, 32);
    for (size_t turn = 0; turn < 6; turn++) {
      MULTIPLY_ADD(v0, f2, v8);
      LOAD_SCALAR(f0, x + 8);
      LOAD_FLOATS(v8, p);
      STEP(p, 32);
      MULTIPLY_ADD(v2, f3, v10);
      LOAD_SCALAR(f1, x + 9);
      LOAD_FLOATS(v10, p);
      STEP(p, 32);
      MULTIPLY_ADD(v0, f4, v12);
      LOAD_SCALAR(f2, x + 10);
      LOAD_FLOATS(v12, p);
      STEP(p, 32);
      MULTIPLY_ADD(v2, f5, v14);
      LOAD_SCALAR(f3, x + 11);
      LOAD_FLOATS(v14, p);
      STEP(p, 32);
      MULTIPLY_ADD(v0, f6, v16);
      LOAD_SCALAR(f4, x + 12);
      LOAD_FLOATS(v16, p);
      STEP(p, 32);
      MULTIPLY_ADD(v2, f7, v18);
      LOAD_SCALAR(f5, x + 13);
      LOAD_FLOATS(v18, p);
      STEP(p, 32);
      MULTIPLY_ADD(v0, f0, v4);
      LOAD_SCALAR(f6, x + 14);
      LOAD_FLOATS(v4, p);
      STEP(p, 32);
      MULTIPLY_ADD(v2, f1, v6);
      LOAD_SCALAR(f7, x + 15);
      LOAD_FLOATS(v6, p);
      STEP(p, 32);
      x += 8;
    }
    MULTIPLY_ADD(v0, f2, v8);
    LOAD_SCALAR(f0, x + 8);
    LOAD_FLOATS(v8, p);
    STEP(p, 32);
    MULTIPLY_ADD(v2, f3, v10);
    LOAD_SCALAR(f1, x + 9);
    LOAD_FLOATS(v10, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f4, v12);
    LOAD_SCALAR(f2, x + 10);
    LOAD_FLOATS(v12, p);
    STEP(p, 32);
    MULTIPLY_ADD(v2, f5, v14);
    LOAD_SCALAR(f3, x + 11);
    LOAD_FLOATS(v14, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f6, v16);
    LOAD_SCALAR(f4, x + 12);
    LOAD_FLOATS(v16, p);
    STEP(p, 32);
    MULTIPLY_ADD(v2, f7, v18);
    LOAD_SCALAR(f5, x + 13);
    LOAD_FLOATS(v18, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f0, v4);
    LOAD_SCALAR(f6, x + 14);
    p = next;
    LOAD_FLOATS(v4, p);
    STEP(p, 32);
    MULTIPLY_ADD(v2, f1, v6);
    LOAD_SCALAR(f7, x + 15);
    LOAD_FLOATS(v6, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f2, v8);
    LOAD_FLOATS(v8, p);
    STEP(p, 32);
    MULTIPLY_ADD(v2, f3, v10);
    LOAD_FLOATS(v10, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f4, v12);
    LOAD_FLOATS(v12, p);
    STEP(p, 32);
    MULTIPLY_ADD(v2, f5, v14);
    LOAD_FLOATS(v14, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f6, v16);
    LOAD_FLOATS(v16, p);
    STEP(p, 32);
    MULTIPLY_ADD(v2, f7, v18);
    LOAD_FLOATS(v18, p);
    STEP(p, 32);
    ADD(v0, v2);
    STORE_FLOATS(v0, out);
    if (!left) break;
    panel = next;
    out += 8;
  }
}

/* Stage 1: S' [8] = A [8, 64] S, fp32. */
static void stage_1(const float *s, const float *w, float *out)
{
  stream_1a(s, (const unsigned char *)w, out, 1);
}

/* Panels of 32 rows, 8 vectors of codes each. */
static void stream_2a(const float *x0, const unsigned char *panel, float *out, const float *bias, size_t count)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  const float *x = x0;
  const unsigned char *p = panel;
  LOAD_SCALAR(f0, x);
  LOAD_SCALAR(f1, x + 1);
  LOAD_SCALAR(f2, x + 2);
  LOAD_SCALAR(f3, x + 3);
  LOAD_SCALAR(f4, x + 4);
  LOAD_SCALAR(f5, x + 5);
  LOAD_SCALAR(f6, x + 6);
  LOAD_SCALAR(f7, x + 7);
  SET_WIDE(32, m8);
  LOAD_FLOATS(v24, p);
  STEP(p, 128);
  for (size_t left = count - 1;; left--) {
    const unsigned char *next = left ? panel + 1024 : panel;
    MULTIPLY(v0, f0, v24);
    LOAD_FLOATS(v24, p);
    STEP(p, 128);
    MULTIPLY(v8, f1, v24);
    LOAD_FLOATS(v24, p);
    STEP(p, 128);
    MULTIPLY_ADD(v0, f2, v24);
    LOAD_FLOATS(v24, p);
    STEP(p, 128);
    MULTIPLY_ADD(v8, f3, v24);
    LOAD_FLOATS(v24, p);
    STEP(p, 128);
    MULTIPLY_ADD(v0, f4, v24);
    LOAD_FLOATS(v24, p);
    STEP(p, 128);
    MULTIPLY_ADD(v8, f5, v24);
    LOAD_FLOATS(v24, p);
    STEP(p, 128);
    LOAD_FLOATS(v16, bias);
    MULTIPLY_ADD(v0, f6, v24);
    LOAD_FLOATS(v24, p);
    STEP(p, 128);
    MULTIPLY_ADD(v8, f7, v24);
    p = next;
    LOAD_FLOATS(v24, p);
    STEP(p, 128);
    ADD(v16, v0);
    ADD(v16, v8);
    STORE_FLOATS(v16, out);
    if (!left) break;
    panel = next;
    out += 32;
    bias += 32;
  }
}

/* Panels of 8 rows, 8 vectors of codes each. */
static void stream_2b(const float *x0, const unsigned char *panel, float *out, const float *bias, size_t count)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  const float *x = x0;
  const unsigned char *p = panel;
  LOAD_SCALAR(f0, x);
  LOAD_SCALAR(f1, x + 1);
  LOAD_SCALAR(f2, x + 2);
  LOAD_SCALAR(f3, x + 3);
  LOAD_SCALAR(f4, x + 4);
  LOAD_SCALAR(f5, x + 5);
  LOAD_SCALAR(f6, x + 6);
  LOAD_SCALAR(f7, x + 7);
  SET_WIDE(8, m2);
  LOAD_FLOATS(v6, p);
  STEP(p, 32);
  LOAD_FLOATS(v8, p);
  STEP(p, 32);
  LOAD_FLOATS(v10, p);
  STEP(p, 32);
  LOAD_FLOATS(v12, p);
  STEP(p, 32);
  LOAD_FLOATS(v14, p);
  STEP(p, 32);
  LOAD_FLOATS(v16, p);
  STEP(p, 32);
  LOAD_FLOATS(v18, p);
  STEP(p, 32);
  LOAD_FLOATS(v20, p);
  STEP(p, 32);
  for (size_t left = count - 1;; left--) {
    const unsigned char *next = left ? panel + 256 : panel;
    MULTIPLY(v0, f0, v6);
    p = next;
    LOAD_FLOATS(v6, p);
    STEP(p, 32);
    MULTIPLY(v2, f1, v8);
    LOAD_FLOATS(v8, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f2, v10);
    LOAD_FLOATS(v10, p);
    STEP(p, 32);
    MULTIPLY_ADD(v2, f3, v12);
    LOAD_FLOATS(v12, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f4, v14);
    LOAD_FLOATS(v14, p);
    STEP(p, 32);
    MULTIPLY_ADD(v2, f5, v16);
    LOAD_FLOATS(v16, p);
    STEP(p, 32);
    LOAD_FLOATS(v4, bias);
    MULTIPLY_ADD(v0, f6, v18);
    LOAD_FLOATS(v18, p);
    STEP(p, 32);
    MULTIPLY_ADD(v2, f7, v20);
    LOAD_FLOATS(v20, p);
    STEP(p, 32);
    ADD(v4, v0);
    ADD(v4, v2);
    STORE_FLOATS(v4, out);
    if (!left) break;
    panel = next;
    out += 8;
    bias += 8;
  }
}

/* Stage 2: S' [40] = A [40, 8] S, fp32. */
static void stage_2(const float *s, const float *w, float *out, const float *bias)
{
  stream_2a(s, (const unsigned char *)w, out, bias, 1);
  stream_2b(s, (const unsigned char *)w + 1024, out + 32, bias + 32, 1);
}

void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group);
void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group)
{
  (void)x, (void)scratch, (void)y, (void)group;
  stage_1(x, weights, scratch);
  stage_2(scratch, weights + 512, y, weights + 832);
}
