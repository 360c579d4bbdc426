/* y [1, 40] from x [1, 64], 40x1 / 1x64, ranks 8.
 * order 1,0; stream m1 x4 | stream m4 x2; half precision products; 8 lanes. */
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


/* The state in half precision, scaled so that its largest element is near 1. */
static __attribute__((noinline, cold)) void slowly_1(const float *s, float *work)
{
  SET_WIDE(64, m8);
  LOAD_FLOATS(v0, s);
  LOAD_FLOATS(v8, s);
  SET_WIDE(32, m4);
  LARGER(v0, v4);
  SMALLER(v8, v12);
  SET_WIDE(16, m2);
  LARGER(v0, v2);
  SMALLER(v8, v10);
  SET_WIDE(8, m1);
  LARGER(v0, v1);
  SMALLER(v8, v9);
  float m0, least;
  FIRST_FROM(v16, 0.0f);
  FIRST_FROM(v24, 0.0f);
  LARGEST(v16, v0);
  LEAST(v24, v8);
  FIRST_TO(m0, v16);
  FIRST_TO(least, v24);
  MAXIMUM(m0, -least);
  union { float value; unsigned bits; } largest, scale, back;
  MAXIMUM(m0, 0x1p-100f);
  MINIMUM(m0, 0x1p100f);
  largest.value = m0;
  scale.bits = 0x7f000000 - (largest.bits & 0x7f800000);
  back.bits = (largest.bits & 0x7f800000) + 0;
  work[0] = back.value;
  unsigned short *half = (unsigned short *)(work + 32);
  SET_WIDE(32, m4);
  LOAD_FLOATS(v0, s + 0);
  LOAD_FLOATS(v4, s + 32);
  SCALE(v0, scale.value);
  SCALE(v4, scale.value);
  AS_HALF(m2);
  TO_HALF(v16, v0);
  TO_HALF(v18, v4);
  STORE_HALVES(v16, half + 0);
  STORE_HALVES(v18, half + 32);
  SET_HALF(64, m4);
  CLEAR(v0);
  STORE_HALVES(v0, half + 64);
}

/* The state in half precision. */
static void prepare_1(const float *s, float *work)
{
  unsigned short *half = (unsigned short *)(work + 32);
  SET_HALF(64, m4);
  CLEAR(v0);
  STORE_HALVES(v0, half + 64);
  SET_WIDE(32, m4);
  AS_HALF(m2);
  CLEAR(v16);
  CLEAR(v18);
  CLEAR(v20);
  LOAD_FLOATS(v0, s + 0 + 0);
  LOAD_FLOATS(v4, s + 0 + 32);
  TO_HALF(v8, v0);
  TO_HALF(v10, v4);
  STORE_HALVES(v8, half + 0 + 0);
  STORE_HALVES(v10, half + 0 + 32);
  LARGEST_BITS(v16, v8);
  LARGEST_BITS(v16, v10);
  LARGEST_BITS_BELOW_0(v18, v8);
  LARGEST_BITS_BELOW_0(v18, v10);
  REDUCE_BITS(v16, v16);
  REDUCE_BITS_BELOW_0(v18, v18);
  long above, below;
  BITS_TO(above, v16);
  BITS_TO(below, v18);
  const unsigned long largest = (below & 0x7fff) > above ? (below & 0x7fff) : above;
  work[0] = 0x1p0f;
  if (largest - 0x1400 >= 0x5c00) slowly_1(s, work);
}

/* Panels of 8 rows, 64 vectors of codes each. */
static void stream_1a(const unsigned short *x0, const unsigned char *panel, float *out, const float *work, size_t count)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  const unsigned short *x = x0;
  const unsigned char *p = panel;
  const float factor = work[0];
  (void)x;
  SET_WIDE(8, m1);
  AS_HALF(mf2);
  LOAD_HALVES(v4, p);
  STEP(p, 16);
  LOAD_HALVES(v5, p);
  STEP(p, 16);
  LOAD_HALVES(v6, p);
  STEP(p, 16);
  LOAD_HALVES(v7, p);
  STEP(p, 16);
  LOAD_HALVES(v8, p);
  STEP(p, 16);
  LOAD_HALVES(v9, p);
  STEP(p, 16);
  LOAD_HALVES(v10, p);
  STEP(p, 16);
  LOAD_HALVES(v11, p);
  STEP(p, 16);
  for (size_t left = count - 1;; left--) {
    const unsigned char *next = left ? panel + 1024 : panel;
    x = x0;
    LOAD_HALF(f0, x);
    LOAD_HALF(f1, x + 1);
    LOAD_HALF(f2, x + 2);
    LOAD_HALF(f3, x + 3);
    LOAD_HALF(f4, x + 4);
    LOAD_HALF(f5, x + 5);
    HALF_MULTIPLY(v0, f0, v4);
    LOAD_HALF(f6, x + 6);
    LOAD_HALVES(v4, p);
    STEP(p, 16);
    HALF_MULTIPLY(v1, f1, v5);
    LOAD_HALF(f7, x + 7);
    LOAD_HALVES(v5, p);
    STEP(p, 16);
    HALF_MULTIPLY(v2, f2, v6);
    LOAD_HALF(f0, x + 8);
    LOAD_HALVES(v6, p);
    STEP(p, 16);
    HALF_MULTIPLY(v3, f3, v7);
    LOAD_HALF(f1, x + 9);
    LOAD_HALVES(v7, p);
    STEP(p, 16);
    for (size_t turn = 0; turn < 3; turn++) {
      HALF_MULTIPLY_ADD(v0, f4, v8);
      LOAD_HALF(f2, x + 10);
      LOAD_HALVES(v8, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v1, f5, v9);
      LOAD_HALF(f3, x + 11);
      LOAD_HALVES(v9, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v2, f6, v10);
      LOAD_HALF(f4, x + 12);
      LOAD_HALVES(v10, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v3, f7, v11);
      LOAD_HALF(f5, x + 13);
      LOAD_HALVES(v11, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v0, f0, v4);
      LOAD_HALF(f6, x + 14);
      LOAD_HALVES(v4, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v1, f1, v5);
      LOAD_HALF(f7, x + 15);
      LOAD_HALVES(v5, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v2, f2, v6);
      LOAD_HALF(f0, x + 16);
      LOAD_HALVES(v6, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v3, f3, v7);
      LOAD_HALF(f1, x + 17);
      LOAD_HALVES(v7, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v0, f4, v8);
      LOAD_HALF(f2, x + 18);
      LOAD_HALVES(v8, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v1, f5, v9);
      LOAD_HALF(f3, x + 19);
      LOAD_HALVES(v9, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v2, f6, v10);
      LOAD_HALF(f4, x + 20);
      LOAD_HALVES(v10, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v3, f7, v11);
      LOAD_HALF(f5, x + 21);
      LOAD_HALVES(v11, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v0, f0, v4);
      LOAD_HALF(f6, x + 22);
      LOAD_HALVES(v4, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v1, f1, v5);
      LOAD_HALF(f7, x + 23);
      LOAD_HALVES(v5, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v2, f2, v6);
      LOAD_HALF(f0, x + 24);
      LOAD_HALVES(v6, p);
      STEP(p, 16);
      HALF_MULTIPLY_ADD(v3, f3, v7);
      LOAD_HALF(f1, x + 25);
      LOAD_HALVES(v7, p);
      STEP(p, 16);
      x += 16;
    }
    HALF_MULTIPLY_ADD(v0, f4, v8);
    LOAD_HALF(f2, x + 10);
    LOAD_HALVES(v8, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v1, f5, v9);
    LOAD_HALF(f3, x + 11);
    LOAD_HALVES(v9, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v2, f6, v10);
    LOAD_HALF(f4, x + 12);
    LOAD_HALVES(v10, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v3, f7, v11);
    LOAD_HALF(f5, x + 13);
    LOAD_HALVES(v11, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v0, f0, v4);
    LOAD_HALF(f6, x + 14);
    p = next;
    LOAD_HALVES(v4, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v1, f1, v5);
    LOAD_HALF(f7, x + 15);
    LOAD_HALVES(v5, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v2, f2, v6);
    LOAD_HALVES(v6, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v3, f3, v7);
    LOAD_HALVES(v7, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v0, f4, v8);
    LOAD_HALVES(v8, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v1, f5, v9);
    LOAD_HALVES(v9, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v2, f6, v10);
    LOAD_HALVES(v10, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v3, f7, v11);
    LOAD_HALVES(v11, p);
    STEP(p, 16);
    AS_WIDE(m1);
    ADD(v0, v1);
    ADD(v0, v2);
    ADD(v0, v3);
    SCALE(v0, factor);
    STORE_FLOATS(v0, out);
    AS_HALF(mf2);
    if (!left) break;
    panel = next;
    out += 8;
  }
}

/* Stage 1: S' [8] = A [8, 64] S, fp16. */
static void stage_1(const float *s, const float *w, float *out, float *work)
{
  prepare_1(s, work);
  stream_1a((const unsigned short *)(work + 32), (const unsigned char *)w, out, work, 1);
}

/* The state in half precision, scaled so that its largest element is near 1. */
static __attribute__((noinline, cold)) void slowly_2(const float *s, float *work)
{
  float m0 = __builtin_fabsf(s[0]);
  float m1 = __builtin_fabsf(s[1]);
  float m2 = __builtin_fabsf(s[2]);
  float m3 = __builtin_fabsf(s[3]);
  MAXIMUM(m0, __builtin_fabsf(s[4]));
  MAXIMUM(m1, __builtin_fabsf(s[5]));
  MAXIMUM(m2, __builtin_fabsf(s[6]));
  MAXIMUM(m3, __builtin_fabsf(s[7]));
  MAXIMUM(m0, m1);
  MAXIMUM(m0, m2);
  MAXIMUM(m0, m3);
  union { float value; unsigned bits; } largest, scale, back;
  MAXIMUM(m0, 0x1p-100f);
  MINIMUM(m0, 0x1p100f);
  largest.value = m0;
  scale.bits = 0x7f000000 - (largest.bits & 0x7f800000);
  back.bits = (largest.bits & 0x7f800000) + 0;
  work[0] = back.value;
  unsigned short *half = (unsigned short *)(work + 32);
  float r0 = s[0] * scale.value;
  float r1 = s[1] * scale.value;
  float r2 = s[2] * scale.value;
  float r3 = s[3] * scale.value;
  float r4 = s[4] * scale.value;
  float r5 = s[5] * scale.value;
  float r6 = s[6] * scale.value;
  float r7 = s[7] * scale.value;
  ROUND_TO_HALF(r0);
  ROUND_TO_HALF(r1);
  ROUND_TO_HALF(r2);
  ROUND_TO_HALF(r3);
  ROUND_TO_HALF(r4);
  ROUND_TO_HALF(r5);
  ROUND_TO_HALF(r6);
  ROUND_TO_HALF(r7);
  STORE_HALF(r0, half + 0);
  STORE_HALF(r1, half + 1);
  STORE_HALF(r2, half + 2);
  STORE_HALF(r3, half + 3);
  STORE_HALF(r4, half + 4);
  STORE_HALF(r5, half + 5);
  STORE_HALF(r6, half + 6);
  STORE_HALF(r7, half + 7);
}

/* The state in half precision. */
static void prepare_2(const float *s, float *work)
{
  unsigned short *half = (unsigned short *)(work + 32);
  float r0 = s[0];
  float r1 = s[1];
  float r2 = s[2];
  float r3 = s[3];
  float r4 = s[4];
  float r5 = s[5];
  float r6 = s[6];
  float r7 = s[7];
  ROUND_TO_HALF(r0);
  ROUND_TO_HALF(r1);
  ROUND_TO_HALF(r2);
  ROUND_TO_HALF(r3);
  ROUND_TO_HALF(r4);
  ROUND_TO_HALF(r5);
  ROUND_TO_HALF(r6);
  ROUND_TO_HALF(r7);
  STORE_HALF(r0, half + 0);
  STORE_HALF(r1, half + 1);
  STORE_HALF(r2, half + 2);
  STORE_HALF(r3, half + 3);
  STORE_HALF(r4, half + 4);
  STORE_HALF(r5, half + 5);
  STORE_HALF(r6, half + 6);
  STORE_HALF(r7, half + 7);
  float m0 = __builtin_fabsf(s[0]);
  float m1 = __builtin_fabsf(s[1]);
  float m2 = __builtin_fabsf(s[2]);
  float m3 = __builtin_fabsf(s[3]);
  MAXIMUM(m0, __builtin_fabsf(s[4]));
  MAXIMUM(m1, __builtin_fabsf(s[5]));
  MAXIMUM(m2, __builtin_fabsf(s[6]));
  MAXIMUM(m3, __builtin_fabsf(s[7]));
  MAXIMUM(m0, m1);
  MAXIMUM(m0, m2);
  MAXIMUM(m0, m3);
  work[0] = 0x1p0f;
  if (!(m0 >= 0x1p-10f && m0 < 0x1p13f)) slowly_2(s, work);
}

/* Panels of 32 rows, 8 vectors of codes each. */
static void stream_2a(const unsigned short *x0, const unsigned char *panel, float *out, const float *bias, const float *work, size_t count)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  const unsigned short *x = x0;
  const unsigned char *p = panel;
  const float factor = work[0];
  LOAD_HALF(f0, x);
  LOAD_HALF(f1, x + 1);
  LOAD_HALF(f2, x + 2);
  LOAD_HALF(f3, x + 3);
  LOAD_HALF(f4, x + 4);
  LOAD_HALF(f5, x + 5);
  LOAD_HALF(f6, x + 6);
  LOAD_HALF(f7, x + 7);
  SET_WIDE(32, m4);
  AS_HALF(m2);
  LOAD_HALVES(v12, p);
  STEP(p, 64);
  LOAD_HALVES(v14, p);
  STEP(p, 64);
  LOAD_HALVES(v16, p);
  STEP(p, 64);
  LOAD_HALVES(v18, p);
  STEP(p, 64);
  LOAD_HALVES(v20, p);
  STEP(p, 64);
  LOAD_HALVES(v22, p);
  STEP(p, 64);
  LOAD_HALVES(v24, p);
  STEP(p, 64);
  LOAD_HALVES(v26, p);
  STEP(p, 64);
  for (size_t left = count - 1;; left--) {
    const unsigned char *next = left ? panel + 512 : panel;
    HALF_MULTIPLY(v0, f0, v12);
    p = next;
    LOAD_HALVES(v12, p);
    STEP(p, 64);
    HALF_MULTIPLY(v4, f1, v14);
    LOAD_HALVES(v14, p);
    STEP(p, 64);
    HALF_MULTIPLY_ADD(v0, f2, v16);
    LOAD_HALVES(v16, p);
    STEP(p, 64);
    HALF_MULTIPLY_ADD(v4, f3, v18);
    LOAD_HALVES(v18, p);
    STEP(p, 64);
    HALF_MULTIPLY_ADD(v0, f4, v20);
    LOAD_HALVES(v20, p);
    STEP(p, 64);
    HALF_MULTIPLY_ADD(v4, f5, v22);
    LOAD_HALVES(v22, p);
    STEP(p, 64);
    LOAD_FLOATS(v8, bias);
    HALF_MULTIPLY_ADD(v0, f6, v24);
    LOAD_HALVES(v24, p);
    STEP(p, 64);
    HALF_MULTIPLY_ADD(v4, f7, v26);
    LOAD_HALVES(v26, p);
    STEP(p, 64);
    AS_WIDE(m4);
    MULTIPLY_ADD(v8, factor, v0);
    MULTIPLY_ADD(v8, factor, v4);
    STORE_FLOATS(v8, out);
    AS_HALF(m2);
    if (!left) break;
    panel = next;
    out += 32;
    bias += 32;
  }
}

/* Panels of 8 rows, 8 vectors of codes each. */
static void stream_2b(const unsigned short *x0, const unsigned char *panel, float *out, const float *bias, const float *work, size_t count)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  const unsigned short *x = x0;
  const unsigned char *p = panel;
  const float factor = work[0];
  LOAD_HALF(f0, x);
  LOAD_HALF(f1, x + 1);
  LOAD_HALF(f2, x + 2);
  LOAD_HALF(f3, x + 3);
  LOAD_HALF(f4, x + 4);
  LOAD_HALF(f5, x + 5);
  LOAD_HALF(f6, x + 6);
  LOAD_HALF(f7, x + 7);
  SET_WIDE(8, m1);
  AS_HALF(mf2);
  LOAD_HALVES(v3, p);
  STEP(p, 16);
  LOAD_HALVES(v4, p);
  STEP(p, 16);
  LOAD_HALVES(v5, p);
  STEP(p, 16);
  LOAD_HALVES(v6, p);
  STEP(p, 16);
  LOAD_HALVES(v7, p);
  STEP(p, 16);
  LOAD_HALVES(v8, p);
  STEP(p, 16);
  LOAD_HALVES(v9, p);
  STEP(p, 16);
  LOAD_HALVES(v10, p);
  STEP(p, 16);
  for (size_t left = count - 1;; left--) {
    const unsigned char *next = left ? panel + 128 : panel;
    HALF_MULTIPLY(v0, f0, v3);
    p = next;
    LOAD_HALVES(v3, p);
    STEP(p, 16);
    HALF_MULTIPLY(v1, f1, v4);
    LOAD_HALVES(v4, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v0, f2, v5);
    LOAD_HALVES(v5, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v1, f3, v6);
    LOAD_HALVES(v6, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v0, f4, v7);
    LOAD_HALVES(v7, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v1, f5, v8);
    LOAD_HALVES(v8, p);
    STEP(p, 16);
    LOAD_FLOATS(v2, bias);
    HALF_MULTIPLY_ADD(v0, f6, v9);
    LOAD_HALVES(v9, p);
    STEP(p, 16);
    HALF_MULTIPLY_ADD(v1, f7, v10);
    LOAD_HALVES(v10, p);
    STEP(p, 16);
    AS_WIDE(m1);
    MULTIPLY_ADD(v2, factor, v0);
    MULTIPLY_ADD(v2, factor, v1);
    STORE_FLOATS(v2, out);
    AS_HALF(mf2);
    if (!left) break;
    panel = next;
    out += 8;
    bias += 8;
  }
}

/* Stage 2: S' [40] = A [40, 8] S, fp16. */
static void stage_2(const float *s, const float *w, float *out, const float *bias, float *work)
{
  prepare_2(s, work);
  stream_2a((const unsigned short *)(work + 32), (const unsigned char *)w, out, bias, work, 1);
  stream_2b((const unsigned short *)(work + 32), (const unsigned char *)w + 512, out + 32, bias + 32, work, 1);
}

void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group);
void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group)
{
  (void)x, (void)scratch, (void)y, (void)group;
  stage_1(x, weights, scratch, scratch + 16);
  stage_2(scratch, weights + 256, y, weights + 416, scratch + 16);
}
