/* y [1, 40] from x [1, 64], 40x1 / 1x64, ranks 8.
 * order 1,0; short m1 x4 | short m4 x2; half precision products; 8 lanes. */
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


/* Panels of 8 rows, 64 terms each, in single precision. */
static void stream_1a(const float *s, const unsigned char *from, float *out, size_t count)
{
  __attribute__((unused)) const union { unsigned bits; float value; } low = {0xffff3c00u};
  float f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15;
  SET_WIDE(8, m1);
  for (; count; count--, from += 1024, out += 8) {
    AS_HALF(mf2);
    LOAD_SCALAR(f0, s + 0);
    LOAD_SCALAR(f1, s + 1);
    LOAD_SCALAR(f2, s + 2);
    LOAD_SCALAR(f3, s + 3);
    LOAD_SCALAR(f4, s + 4);
    LOAD_SCALAR(f5, s + 5);
    LOAD_SCALAR(f6, s + 6);
    LOAD_SCALAR(f7, s + 7);
    LOAD_HALVES(v12, from + 0);
    LOAD_HALVES(v13, from + 16);
    LOAD_HALVES(v14, from + 32);
    LOAD_HALVES(v15, from + 48);
    LOAD_HALVES(v16, from + 64);
    LOAD_HALVES(v17, from + 80);
    LOAD_HALVES(v18, from + 96);
    LOAD_HALVES(v19, from + 112);
    HALF_TIMES(v4, v12, low.value);
    LOAD_HALVES(v12, from + 128);
    HALF_TIMES(v5, v13, low.value);
    LOAD_SCALAR(f8, s + 8);
    HALF_TIMES(v6, v14, low.value);
    LOAD_HALVES(v13, from + 144);
    HALF_TIMES(v7, v15, low.value);
    LOAD_SCALAR(f9, s + 9);
    HALF_TIMES(v8, v16, low.value);
    LOAD_HALVES(v14, from + 160);
    HALF_TIMES(v9, v17, low.value);
    LOAD_SCALAR(f10, s + 10);
    HALF_TIMES(v10, v18, low.value);
    LOAD_HALVES(v15, from + 176);
    HALF_TIMES(v11, v19, low.value);
    LOAD_SCALAR(f11, s + 11);
    LOAD_HALVES(v16, from + 192);
    LOAD_SCALAR(f12, s + 12);
    LOAD_HALVES(v17, from + 208);
    LOAD_SCALAR(f13, s + 13);
    LOAD_HALVES(v18, from + 224);
    LOAD_SCALAR(f14, s + 14);
    LOAD_HALVES(v19, from + 240);
    LOAD_SCALAR(f15, s + 15);
    AS_WIDE(m1);
    MULTIPLY(v0, f0, v4);
    MULTIPLY(v1, f1, v5);
    MULTIPLY(v2, f2, v6);
    MULTIPLY(v3, f3, v7);
    MULTIPLY_ADD(v0, f4, v8);
    MULTIPLY_ADD(v1, f5, v9);
    MULTIPLY_ADD(v2, f6, v10);
    MULTIPLY_ADD(v3, f7, v11);
    AS_HALF(mf2);
    HALF_TIMES(v4, v12, low.value);
    LOAD_HALVES(v12, from + 256);
    HALF_TIMES(v5, v13, low.value);
    LOAD_SCALAR(f0, s + 16);
    HALF_TIMES(v6, v14, low.value);
    LOAD_HALVES(v13, from + 272);
    HALF_TIMES(v7, v15, low.value);
    LOAD_SCALAR(f1, s + 17);
    HALF_TIMES(v8, v16, low.value);
    LOAD_HALVES(v14, from + 288);
    HALF_TIMES(v9, v17, low.value);
    LOAD_SCALAR(f2, s + 18);
    HALF_TIMES(v10, v18, low.value);
    LOAD_HALVES(v15, from + 304);
    HALF_TIMES(v11, v19, low.value);
    LOAD_SCALAR(f3, s + 19);
    LOAD_HALVES(v16, from + 320);
    LOAD_SCALAR(f4, s + 20);
    LOAD_HALVES(v17, from + 336);
    LOAD_SCALAR(f5, s + 21);
    LOAD_HALVES(v18, from + 352);
    LOAD_SCALAR(f6, s + 22);
    LOAD_HALVES(v19, from + 368);
    LOAD_SCALAR(f7, s + 23);
    AS_WIDE(m1);
    MULTIPLY_ADD(v0, f8, v4);
    MULTIPLY_ADD(v1, f9, v5);
    MULTIPLY_ADD(v2, f10, v6);
    MULTIPLY_ADD(v3, f11, v7);
    MULTIPLY_ADD(v0, f12, v8);
    MULTIPLY_ADD(v1, f13, v9);
    MULTIPLY_ADD(v2, f14, v10);
    MULTIPLY_ADD(v3, f15, v11);
    AS_HALF(mf2);
    HALF_TIMES(v4, v12, low.value);
    LOAD_HALVES(v12, from + 384);
    HALF_TIMES(v5, v13, low.value);
    LOAD_SCALAR(f8, s + 24);
    HALF_TIMES(v6, v14, low.value);
    LOAD_HALVES(v13, from + 400);
    HALF_TIMES(v7, v15, low.value);
    LOAD_SCALAR(f9, s + 25);
    HALF_TIMES(v8, v16, low.value);
    LOAD_HALVES(v14, from + 416);
    HALF_TIMES(v9, v17, low.value);
    LOAD_SCALAR(f10, s + 26);
    HALF_TIMES(v10, v18, low.value);
    LOAD_HALVES(v15, from + 432);
    HALF_TIMES(v11, v19, low.value);
    LOAD_SCALAR(f11, s + 27);
    LOAD_HALVES(v16, from + 448);
    LOAD_SCALAR(f12, s + 28);
    LOAD_HALVES(v17, from + 464);
    LOAD_SCALAR(f13, s + 29);
    LOAD_HALVES(v18, from + 480);
    LOAD_SCALAR(f14, s + 30);
    LOAD_HALVES(v19, from + 496);
    LOAD_SCALAR(f15, s + 31);
    AS_WIDE(m1);
    MULTIPLY_ADD(v0, f0, v4);
    MULTIPLY_ADD(v1, f1, v5);
    MULTIPLY_ADD(v2, f2, v6);
    MULTIPLY_ADD(v3, f3, v7);
    MULTIPLY_ADD(v0, f4, v8);
    MULTIPLY_ADD(v1, f5, v9);
    MULTIPLY_ADD(v2, f6, v10);
    MULTIPLY_ADD(v3, f7, v11);
    AS_HALF(mf2);
    HALF_TIMES(v4, v12, low.value);
    LOAD_HALVES(v12, from + 512);
    HALF_TIMES(v5, v13, low.value);
    LOAD_SCALAR(f0, s + 32);
    HALF_TIMES(v6, v14, low.value);
    LOAD_HALVES(v13, from + 528);
    HALF_TIMES(v7, v15, low.value);
    LOAD_SCALAR(f1, s + 33);
    HALF_TIMES(v8, v16, low.value);
    LOAD_HALVES(v14, from + 544);
    HALF_TIMES(v9, v17, low.value);
    LOAD_SCALAR(f2, s + 34);
    HALF_TIMES(v10, v18, low.value);
    LOAD_HALVES(v15, from + 560);
    HALF_TIMES(v11, v19, low.value);
    LOAD_SCALAR(f3, s + 35);
    LOAD_HALVES(v16, from + 576);
    LOAD_SCALAR(f4, s + 36);
    LOAD_HALVES(v17, from + 592);
    LOAD_SCALAR(f5, s + 37);
    LOAD_HALVES(v18, from + 608);
    LOAD_SCALAR(f6, s + 38);
    LOAD_HALVES(v19, from + 624);
    LOAD_SCALAR(f7, s + 39);
    AS_WIDE(m1);
    MULTIPLY_ADD(v0, f8, v4);
    MULTIPLY_ADD(v1, f9, v5);
    MULTIPLY_ADD(v2, f10, v6);
    MULTIPLY_ADD(v3, f11, v7);
    MULTIPLY_ADD(v0, f12, v8);
    MULTIPLY_ADD(v1, f13, v9);
    MULTIPLY_ADD(v2, f14, v10);
    MULTIPLY_ADD(v3, f15, v11);
    AS_HALF(mf2);
    HALF_TIMES(v4, v12, low.value);
    LOAD_HALVES(v12, from + 640);
    HALF_TIMES(v5, v13, low.value);
    LOAD_SCALAR(f8, s + 40);
    HALF_TIMES(v6, v14, low.value);
    LOAD_HALVES(v13, from + 656);
    HALF_TIMES(v7, v15, low.value);
    LOAD_SCALAR(f9, s + 41);
    HALF_TIMES(v8, v16, low.value);
    LOAD_HALVES(v14, from + 672);
    HALF_TIMES(v9, v17, low.value);
    LOAD_SCALAR(f10, s + 42);
    HALF_TIMES(v10, v18, low.value);
    LOAD_HALVES(v15, from + 688);
    HALF_TIMES(v11, v19, low.value);
    LOAD_SCALAR(f11, s + 43);
    LOAD_HALVES(v16, from + 704);
    LOAD_SCALAR(f12, s + 44);
    LOAD_HALVES(v17, from + 720);
    LOAD_SCALAR(f13, s + 45);
    LOAD_HALVES(v18, from + 736);
    LOAD_SCALAR(f14, s + 46);
    LOAD_HALVES(v19, from + 752);
    LOAD_SCALAR(f15, s + 47);
    AS_WIDE(m1);
    MULTIPLY_ADD(v0, f0, v4);
    MULTIPLY_ADD(v1, f1, v5);
    MULTIPLY_ADD(v2, f2, v6);
    MULTIPLY_ADD(v3, f3, v7);
    MULTIPLY_ADD(v0, f4, v8);
    MULTIPLY_ADD(v1, f5, v9);
    MULTIPLY_ADD(v2, f6, v10);
    MULTIPLY_ADD(v3, f7, v11);
    AS_HALF(mf2);
    HALF_TIMES(v4, v12, low.value);
    LOAD_HALVES(v12, from + 768);
    HALF_TIMES(v5, v13, low.value);
    LOAD_SCALAR(f0, s + 48);
    HALF_TIMES(v6, v14, low.value);
    LOAD_HALVES(v13, from + 784);
    HALF_TIMES(v7, v15, low.value);
    LOAD_SCALAR(f1, s + 49);
    HALF_TIMES(v8, v16, low.value);
    LOAD_HALVES(v14, from + 800);
    HALF_TIMES(v9, v17, low.value);
    LOAD_SCALAR(f2, s + 50);
    HALF_TIMES(v10, v18, low.value);
    LOAD_HALVES(v15, from + 816);
    HALF_TIMES(v11, v19, low.value);
    LOAD_SCALAR(f3, s + 51);
    LOAD_HALVES(v16, from + 832);
    LOAD_SCALAR(f4, s + 52);
    LOAD_HALVES(v17, from + 848);
    LOAD_SCALAR(f5, s + 53);
    LOAD_HALVES(v18, from + 864);
    LOAD_SCALAR(f6, s + 54);
    LOAD_HALVES(v19, from + 880);
    LOAD_SCALAR(f7, s + 55);
    AS_WIDE(m1);
    MULTIPLY_ADD(v0, f8, v4);
    MULTIPLY_ADD(v1, f9, v5);
    MULTIPLY_ADD(v2, f10, v6);
    MULTIPLY_ADD(v3, f11, v7);
    MULTIPLY_ADD(v0, f12, v8);
    MULTIPLY_ADD(v1, f13, v9);
    MULTIPLY_ADD(v2, f14, v10);
    MULTIPLY_ADD(v3, f15, v11);
    AS_HALF(mf2);
    HALF_TIMES(v4, v12, low.value);
    LOAD_HALVES(v12, from + 896);
    HALF_TIMES(v5, v13, low.value);
    LOAD_SCALAR(f8, s + 56);
    HALF_TIMES(v6, v14, low.value);
    LOAD_HALVES(v13, from + 912);
    HALF_TIMES(v7, v15, low.value);
    LOAD_SCALAR(f9, s + 57);
    HALF_TIMES(v8, v16, low.value);
    LOAD_HALVES(v14, from + 928);
    HALF_TIMES(v9, v17, low.value);
    LOAD_SCALAR(f10, s + 58);
    HALF_TIMES(v10, v18, low.value);
    LOAD_HALVES(v15, from + 944);
    HALF_TIMES(v11, v19, low.value);
    LOAD_SCALAR(f11, s + 59);
    LOAD_HALVES(v16, from + 960);
    LOAD_SCALAR(f12, s + 60);
    LOAD_HALVES(v17, from + 976);
    LOAD_SCALAR(f13, s + 61);
    LOAD_HALVES(v18, from + 992);
    LOAD_SCALAR(f14, s + 62);
    LOAD_HALVES(v19, from + 1008);
    LOAD_SCALAR(f15, s + 63);
    AS_WIDE(m1);
    MULTIPLY_ADD(v0, f0, v4);
    MULTIPLY_ADD(v1, f1, v5);
    MULTIPLY_ADD(v2, f2, v6);
    MULTIPLY_ADD(v3, f3, v7);
    MULTIPLY_ADD(v0, f4, v8);
    MULTIPLY_ADD(v1, f5, v9);
    MULTIPLY_ADD(v2, f6, v10);
    MULTIPLY_ADD(v3, f7, v11);
    AS_HALF(mf2);
    HALF_TIMES(v4, v12, low.value);
    HALF_TIMES(v5, v13, low.value);
    HALF_TIMES(v6, v14, low.value);
    HALF_TIMES(v7, v15, low.value);
    HALF_TIMES(v8, v16, low.value);
    HALF_TIMES(v9, v17, low.value);
    HALF_TIMES(v10, v18, low.value);
    HALF_TIMES(v11, v19, low.value);
    AS_WIDE(m1);
    MULTIPLY_ADD(v0, f8, v4);
    MULTIPLY_ADD(v1, f9, v5);
    MULTIPLY_ADD(v2, f10, v6);
    MULTIPLY_ADD(v3, f11, v7);
    MULTIPLY_ADD(v0, f12, v8);
    MULTIPLY_ADD(v1, f13, v9);
    MULTIPLY_ADD(v2, f14, v10);
    MULTIPLY_ADD(v3, f15, v11);
    ADD(v0, v1);
    ADD(v0, v2);
    ADD(v0, v3);
    STORE_FLOATS(v0, out);
  }
}

/* Stage 1: S' [8] = A [8, 64] S, fp16. */
static void stage_1(const float *s, const float *w, float *out)
{
  stream_1a(s, (const unsigned char *)w, out, 1);
}

/* Panels of 32 rows, 8 terms each, in single precision. */
static void stream_2a(const float *s, const unsigned char *from, float *out, const float *bias, size_t count)
{
  __attribute__((unused)) const union { unsigned bits; float value; } low = {0xffff3c00u};
  float f0, f1, f2, f3, f4, f5, f6, f7;
  SET_WIDE(32, m4);
  for (; count; count--, from += 512, out += 32, bias += 32) {
    AS_HALF(m2);
    LOAD_SCALAR(f0, s + 0);
    LOAD_SCALAR(f1, s + 1);
    LOAD_SCALAR(f2, s + 2);
    LOAD_SCALAR(f3, s + 3);
    LOAD_HALVES(v24, from + 0);
    LOAD_HALVES(v26, from + 64);
    LOAD_HALVES(v28, from + 128);
    LOAD_HALVES(v30, from + 192);
    HALF_TIMES(v8, v24, low.value);
    LOAD_HALVES(v24, from + 256);
    HALF_TIMES(v12, v26, low.value);
    LOAD_SCALAR(f4, s + 4);
    HALF_TIMES(v16, v28, low.value);
    LOAD_HALVES(v26, from + 320);
    HALF_TIMES(v20, v30, low.value);
    LOAD_SCALAR(f5, s + 5);
    LOAD_HALVES(v28, from + 384);
    LOAD_SCALAR(f6, s + 6);
    LOAD_HALVES(v30, from + 448);
    LOAD_SCALAR(f7, s + 7);
    AS_WIDE(m4);
    MULTIPLY(v0, f0, v8);
    MULTIPLY(v4, f1, v12);
    MULTIPLY_ADD(v0, f2, v16);
    MULTIPLY_ADD(v4, f3, v20);
    AS_HALF(m2);
    HALF_TIMES(v8, v24, low.value);
    HALF_TIMES(v12, v26, low.value);
    HALF_TIMES(v16, v28, low.value);
    HALF_TIMES(v20, v30, low.value);
    AS_WIDE(m4);
    MULTIPLY_ADD(v0, f4, v8);
    MULTIPLY_ADD(v4, f5, v12);
    MULTIPLY_ADD(v0, f6, v16);
    MULTIPLY_ADD(v4, f7, v20);
    ADD(v0, v4);
    LOAD_FLOATS(v12, bias);
    ADD(v0, v12);
    STORE_FLOATS(v0, out);
  }
}

/* Panels of 8 rows, 8 terms each, in single precision. */
static void stream_2b(const float *s, const unsigned char *from, float *out, const float *bias, size_t count)
{
  __attribute__((unused)) const union { unsigned bits; float value; } low = {0xffff3c00u};
  float f0, f1, f2, f3, f4, f5, f6, f7;
  SET_WIDE(8, m1);
  for (; count; count--, from += 128, out += 8, bias += 8) {
    AS_HALF(mf2);
    LOAD_SCALAR(f0, s + 0);
    LOAD_SCALAR(f1, s + 1);
    LOAD_SCALAR(f2, s + 2);
    LOAD_SCALAR(f3, s + 3);
    LOAD_SCALAR(f4, s + 4);
    LOAD_SCALAR(f5, s + 5);
    LOAD_SCALAR(f6, s + 6);
    LOAD_SCALAR(f7, s + 7);
    LOAD_HALVES(v10, from + 0);
    LOAD_HALVES(v11, from + 16);
    LOAD_HALVES(v12, from + 32);
    LOAD_HALVES(v13, from + 48);
    LOAD_HALVES(v14, from + 64);
    LOAD_HALVES(v15, from + 80);
    LOAD_HALVES(v16, from + 96);
    LOAD_HALVES(v17, from + 112);
    HALF_TIMES(v2, v10, low.value);
    HALF_TIMES(v3, v11, low.value);
    HALF_TIMES(v4, v12, low.value);
    HALF_TIMES(v5, v13, low.value);
    HALF_TIMES(v6, v14, low.value);
    HALF_TIMES(v7, v15, low.value);
    HALF_TIMES(v8, v16, low.value);
    HALF_TIMES(v9, v17, low.value);
    AS_WIDE(m1);
    MULTIPLY(v0, f0, v2);
    MULTIPLY(v1, f1, v3);
    MULTIPLY_ADD(v0, f2, v4);
    MULTIPLY_ADD(v1, f3, v5);
    MULTIPLY_ADD(v0, f4, v6);
    MULTIPLY_ADD(v1, f5, v7);
    MULTIPLY_ADD(v0, f6, v8);
    MULTIPLY_ADD(v1, f7, v9);
    ADD(v0, v1);
    LOAD_FLOATS(v3, bias);
    ADD(v0, v3);
    STORE_FLOATS(v0, out);
  }
}

/* Stage 2: S' [40] = A [40, 8] S, fp16. */
static void stage_2(const float *s, const float *w, float *out, const float *bias)
{
  stream_2a(s, (const unsigned char *)w, out, bias, 1);
  stream_2b(s, (const unsigned char *)w + 512, out + 32, bias + 32, 1);
}

void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group);
void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group)
{
  (void)x, (void)scratch, (void)y, (void)group;
  stage_1(x, weights, scratch);
  stage_2(scratch, weights + 256, y, weights + 416);
}
