/* y [16, 64] from x [16, 128], dense.
 * order 0; rows m4 x6 half; half precision products; 8 lanes. */
/* ... */


/* The state in half precision, scaled so that its largest element is near 1. */
static __attribute__((noinline, cold)) void slowly_1(const float *s, float *work)
{
  SET_WIDE(64, m8);
  LOAD_FLOATS(v0, s);
  LOAD_FLOATS(v8, s);
  for (size_t k = 64; k < 1984; k += 128) {
    LOAD_FLOATS(v16, s + k);
    LOAD_FLOATS(v24, s + (k + 128 <= 2048 ? k + 64 : 1984));
    LARGER(v0, v16);
    SMALLER(v8, v16);
    LARGER(v0, v24);
    SMALLER(v8, v24);
  }
  LOAD_FLOATS(v16, s + 1984);
  LARGER(v0, v16);
  SMALLER(v8, v16);
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
  unsigned short *half = (unsigned short *)(work + 80);
  SET_WIDE(32, m4);
  for (size_t k = 0; k < 2048; k += 128) {
    LOAD_FLOATS(v0, s + k + 0);
    LOAD_FLOATS(v4, s + k + 32);
    LOAD_FLOATS(v8, s + k + 64);
    LOAD_FLOATS(v12, s + k + 96);
    SCALE(v0, scale.value);
    SCALE(v4, scale.value);
    SCALE(v8, scale.value);
    SCALE(v12, scale.value);
    AS_HALF(m2);
    TO_HALF(v16, v0);
    TO_HALF(v18, v4);
    TO_HALF(v20, v8);
    TO_HALF(v22, v12);
    STORE_HALVES(v16, half + k + 0);
    STORE_HALVES(v18, half + k + 32);
    STORE_HALVES(v20, half + k + 64);
    STORE_HALVES(v22, half + k + 96);
    AS_WIDE(m4);
  }
}

/* The state in half precision. */
static void prepare_1(const float *s, float *work)
{
  unsigned short *half = (unsigned short *)(work + 80);
  SET_WIDE(32, m4);
  AS_HALF(m2);
  CLEAR(v16);
  CLEAR(v18);
  CLEAR(v20);
  for (size_t k = 0; k < 2048; k += 256) {
    LOAD_FLOATS(v0, s + k + 0);
    LOAD_FLOATS(v4, s + k + 32);
    TO_HALF(v8, v0);
    LOAD_FLOATS(v0, s + k + 64);
    TO_HALF(v10, v4);
    STORE_HALVES(v8, half + k + 0);
    LOAD_FLOATS(v4, s + k + 96);
    TO_HALF(v12, v0);
    STORE_HALVES(v10, half + k + 32);
    LARGEST_BITS(v16, v8);
    LOAD_FLOATS(v0, s + k + 128);
    TO_HALF(v14, v4);
    STORE_HALVES(v12, half + k + 64);
    LARGEST_BITS(v16, v10);
    LARGEST_BITS_BELOW_0(v18, v8);
    LOAD_FLOATS(v4, s + k + 160);
    TO_HALF(v8, v0);
    STORE_HALVES(v14, half + k + 96);
    LARGEST_BITS(v16, v12);
    LARGEST_BITS_BELOW_0(v18, v10);
    LOAD_FLOATS(v0, s + k + 192);
    TO_HALF(v10, v4);
    STORE_HALVES(v8, half + k + 128);
    LARGEST_BITS(v16, v14);
    LARGEST_BITS_BELOW_0(v18, v12);
    LOAD_FLOATS(v4, s + k + 224);
    TO_HALF(v12, v0);
    STORE_HALVES(v10, half + k + 160);
    LARGEST_BITS(v16, v8);
    LARGEST_BITS_BELOW_0(v18, v14);
    TO_HALF(v14, v4);
    STORE_HALVES(v12, half + k + 192);
    LARGEST_BITS(v16, v10);
    LARGEST_BITS_BELOW_0(v18, v8);
    STORE_HALVES(v14, half + k + 224);
    LARGEST_BITS(v16, v12);
    LARGEST_BITS_BELOW_0(v18, v10);
    LARGEST_BITS(v16, v14);
    LARGEST_BITS_BELOW_0(v18, v12);
    LARGEST_BITS_BELOW_0(v18, v14);
  }
  REDUCE_BITS(v16, v16);
  REDUCE_BITS_BELOW_0(v18, v18);
  long above, below;
  BITS_TO(above, v16);
  BITS_TO(below, v18);
  const unsigned long largest = (below & 0x7fff) > above ? (below & 0x7fff) : above;
  work[0] = 0x1p0f;
  if (largest - 0x1400 >= 0x5c00) slowly_1(s, work);
}

/* 32 rows of 128 int4 elements. */
static void widen_1_32(const unsigned char *from, unsigned short *to)
{
  __attribute__((unused)) const union { unsigned bits; float value; } less = {0xffff6408u};
  __attribute__((unused)) const union { unsigned bits; float value; } less_above = {0xffff6480u};
  unsigned long high_nibble = 0xf0;
  KEEP(high_nibble);
  __attribute__((unused)) const union { unsigned bits; float value; } sixteenth = {0xffff2c00u};
  SET_HALF(32, m2);
  for (size_t g = 0; g < 4; g++) {
    const unsigned char *codes = from + g * 576;
    unsigned short *out = to + g * 1024;
    LOAD_HALVES(v26, codes + 512);
    TIMES(v28, sixteenth.value, v26);
    LOAD_HALVES(v16, codes + 0);
    LOAD_HALVES(v20, codes + 64);
    LOW_NIBBLE(v0, v16);
    SET_BITS(v0, 0x6400);
    BITS(v4, v16, high_nibble);
    SET_BITS(v4, 0x6400);
    SUBTRACT(v0, less.value);
    BITS_FROM(v24, v16, 8);
    LOW_NIBBLE(v8, v24);
    SET_BITS(v8, 0x6400);
    SUBTRACT(v4, less_above.value);
    SCALE_EACH(v0, v26);
    BITS(v12, v24, high_nibble);
    SET_BITS(v12, 0x6400);
    SUBTRACT(v8, less.value);
    SCALE_EACH(v4, v28);
    STORE_HALVES(v0, out + 0);
    LOAD_HALVES(v16, codes + 128);
    LOW_NIBBLE(v0, v20);
    SET_BITS(v0, 0x6400);
    SUBTRACT(v12, less_above.value);
    SCALE_EACH(v8, v26);
    STORE_HALVES(v4, out + 32);
    BITS(v4, v20, high_nibble);
    SET_BITS(v4, 0x6400);
    SUBTRACT(v0, less.value);
    SCALE_EACH(v12, v28);
    STORE_HALVES(v8, out + 64);
    BITS_FROM(v24, v20, 8);
    LOW_NIBBLE(v8, v24);
    SET_BITS(v8, 0x6400);
    SUBTRACT(v4, less_above.value);
    SCALE_EACH(v0, v26);
    STORE_HALVES(v12, out + 96);
    BITS(v12, v24, high_nibble);
    SET_BITS(v12, 0x6400);
    SUBTRACT(v8, less.value);
    SCALE_EACH(v4, v28);
    STORE_HALVES(v0, out + 128);
    LOAD_HALVES(v20, codes + 192);
    LOW_NIBBLE(v0, v16);
    SET_BITS(v0, 0x6400);
    SUBTRACT(v12, less_above.value);
    SCALE_EACH(v8, v26);
    STORE_HALVES(v4, out + 160);
    BITS(v4, v16, high_nibble);
    SET_BITS(v4, 0x6400);
    SUBTRACT(v0, less.value);
    SCALE_EACH(v12, v28);
    STORE_HALVES(v8, out + 192);
    BITS_FROM(v24, v16, 8);
    LOW_NIBBLE(v8, v24);
    SET_BITS(v8, 0x6400);
    SUBTRACT(v4, less_above.value);
    SCALE_EACH(v0, v26);
    STORE_HALVES(v12, out + 224);
    BITS(v12, v24, high_nibble);
    SET_BITS(v12, 0x6400);
    SUBTRACT(v8, less.value);
    SCALE_EACH(v4, v28);
    STORE_HALVES(v0, out + 256);
    LOAD_HALVES(v16, codes + 256);
    LOW_NIBBLE(v0, v20);
    SET_BITS(v0, 0x6400);
    SUBTRACT(v12, less_above.value);
    SCALE_EACH(v8, v26);
    STORE_HALVES(v4, out + 288);
    BITS(v4, v20, high_nibble);
    SET_BITS(v4, 0x6400);
    SUBTRACT(v0, less.value);
    SCALE_EACH(v12, v28);
    STORE_HALVES(v8, out + 320);
    BITS_FROM(v24, v20, 8);
    LOW_NIBBLE(v8, v24);
    SET_BITS(v8, 0x6400);
    SUBTRACT(v4, less_above.value);
    SCALE_EACH(v0, v26);
    STORE_HALVES(v12, out + 352);
    BITS(v12, v24, high_nibble);
    SET_BITS(v12, 0x6400);
    SUBTRACT(v8, less.value);
    SCALE_EACH(v4, v28);
    STORE_HALVES(v0, out + 384);
    LOAD_HALVES(v20, codes + 320);
    LOW_NIBBLE(v0, v16);
    SET_BITS(v0, 0x6400);
    SUBTRACT(v12, less_above.value);
    SCALE_EACH(v8, v26);
    STORE_HALVES(v4, out + 416);
    BITS(v4, v16, high_nibble);
    SET_BITS(v4, 0x6400);
    SUBTRACT(v0, less.value);
    SCALE_EACH(v12, v28);
    STORE_HALVES(v8, out + 448);
    BITS_FROM(v24, v16, 8);
    LOW_NIBBLE(v8, v24);
    SET_BITS(v8, 0x6400);
    SUBTRACT(v4, less_above.value);
    SCALE_EACH(v0, v26);
    STORE_HALVES(v12, out + 480);
    BITS(v12, v24, high_nibble);
    SET_BITS(v12, 0x6400);
    SUBTRACT(v8, less.value);
    SCALE_EACH(v4, v28);
    STORE_HALVES(v0, out + 512);
    LOAD_HALVES(v16, codes + 384);
    LOW_NIBBLE(v0, v20);
    SET_BITS(v0, 0x6400);
    SUBTRACT(v12, less_above.value);
    SCALE_EACH(v8, v26);
    STORE_HALVES(v4, out + 544);
    BITS(v4, v20, high_nibble);
    SET_BITS(v4, 0x6400);
    SUBTRACT(v0, less.value);
    SCALE_EACH(v12, v28);
    STORE_HALVES(v8, out + 576);
    BITS_FROM(v24, v20, 8);
    LOW_NIBBLE(v8, v24);
    SET_BITS(v8, 0x6400);
    SUBTRACT(v4, less_above.value);
    SCALE_EACH(v0, v26);
    STORE_HALVES(v12, out + 608);
    BITS(v12, v24, high_nibble);
    SET_BITS(v12, 0x6400);
    SUBTRACT(v8, less.value);
    SCALE_EACH(v4, v28);
    STORE_HALVES(v0, out + 640);
    LOAD_HALVES(v20, codes + 448);
    LOW_NIBBLE(v0, v16);
    SET_BITS(v0, 0x6400);
    SUBTRACT(v12, less_above.value);
    SCALE_EACH(v8, v26);
    STORE_HALVES(v4, out + 672);
    BITS(v4, v16, high_nibble);
    SET_BITS(v4, 0x6400);
    SUBTRACT(v0, less.value);
    SCALE_EACH(v12, v28);
    STORE_HALVES(v8, out + 704);
    BITS_FROM(v24, v16, 8);
    LOW_NIBBLE(v8, v24);
    SET_BITS(v8, 0x6400);
    SUBTRACT(v4, less_above.value);
    SCALE_EACH(v0, v26);
    STORE_HALVES(v12, out + 736);
    BITS(v12, v24, high_nibble);
    SET_BITS(v12, 0x6400);
    SUBTRACT(v8, less.value);
    SCALE_EACH(v4, v28);
    STORE_HALVES(v0, out + 768);
    LOW_NIBBLE(v0, v20);
    SET_BITS(v0, 0x6400);
    SUBTRACT(v12, less_above.value);
    SCALE_EACH(v8, v26);
    STORE_HALVES(v4, out + 800);
    BITS(v4, v20, high_nibble);
    SET_BITS(v4, 0x6400);
    SUBTRACT(v0, less.value);
    SCALE_EACH(v12, v28);
    STORE_HALVES(v8, out + 832);
    BITS_FROM(v24, v20, 8);
    LOW_NIBBLE(v8, v24);
    SET_BITS(v8, 0x6400);
    SUBTRACT(v4, less_above.value);
    SCALE_EACH(v0, v26);
    STORE_HALVES(v12, out + 864);
    BITS(v12, v24, high_nibble);
    SET_BITS(v12, 0x6400);
    SUBTRACT(v8, less.value);
    SCALE_EACH(v4, v28);
    STORE_HALVES(v0, out + 896);
    SUBTRACT(v12, less_above.value);
    SCALE_EACH(v8, v26);
    STORE_HALVES(v4, out + 928);
    SCALE_EACH(v12, v28);
    STORE_HALVES(v8, out + 960);
    STORE_HALVES(v12, out + 992);
  }
}

/* 6 sums of 128 terms each, in vectors of 4 registers. */
static void tile_1a(const unsigned short *a, const unsigned short *b, float *out, size_t vl, float factor, const float *bias)
{
  float f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11;
  SET_HALF(vl, m2);
  const unsigned short *a1 = a + 512;
  LOAD_HALF(f0, a);
  LOAD_HALF(f1, a + 128);
  LOAD_HALVES(v24, b);
  HALF_MULTIPLY(v0, f0, v24);
  LOAD_HALF(f2, a + 256);
  LOAD_HALVES(v28, b + 32);
  HALF_MULTIPLY(v4, f1, v24);
  LOAD_HALF(f3, a + 384);
  HALF_MULTIPLY(v8, f2, v24);
  LOAD_HALF(f4, a1);
  HALF_MULTIPLY(v12, f3, v24);
  LOAD_HALF(f5, a1 + 128);
  HALF_MULTIPLY(v16, f4, v24);
  LOAD_HALF(f6, a + 1);
  HALF_MULTIPLY(v20, f5, v24);
  LOAD_HALF(f7, a + 129);
  {
    const unsigned short *b0 = b + 64;
    const unsigned short *b1 = b + 96;
    const unsigned short *const end = a + 126;
    do {
      HALF_MULTIPLY_ADD(v0, f6, v28);
      LOAD_HALF(f8, a + 257);
      LOAD_HALVES(v24, b0);
      HALF_MULTIPLY_ADD(v4, f7, v28);
      LOAD_HALF(f9, a + 385);
      STEP(a, 4);
      HALF_MULTIPLY_ADD(v8, f8, v28);
      LOAD_HALF(f10, a1 + 1);
      STEP(a1, 4);
      HALF_MULTIPLY_ADD(v12, f9, v28);
      LOAD_HALF(f11, a1 + 127);
      STEP(b0, 128);
      HALF_MULTIPLY_ADD(v16, f10, v28);
      LOAD_HALF(f0, a);
      HALF_MULTIPLY_ADD(v20, f11, v28);
      LOAD_HALF(f1, a + 128);
      HALF_MULTIPLY_ADD(v0, f0, v24);
      LOAD_HALF(f2, a + 256);
      LOAD_HALVES(v28, b1);
      HALF_MULTIPLY_ADD(v4, f1, v24);
      LOAD_HALF(f3, a + 384);
      STEP(b1, 128);
      HALF_MULTIPLY_ADD(v8, f2, v24);
      LOAD_HALF(f4, a1);
      HALF_MULTIPLY_ADD(v12, f3, v24);
      LOAD_HALF(f5, a1 + 128);
      HALF_MULTIPLY_ADD(v16, f4, v24);
      LOAD_HALF(f6, a + 1);
      HALF_MULTIPLY_ADD(v20, f5, v24);
      LOAD_HALF(f7, a + 129);
    } while (a != end);
  }
  HALF_MULTIPLY_ADD(v0, f6, v28);
  LOAD_HALF(f8, a + 257);
  HALF_MULTIPLY_ADD(v4, f7, v28);
  LOAD_HALF(f9, a + 385);
  HALF_MULTIPLY_ADD(v8, f8, v28);
  LOAD_HALF(f10, a1 + 1);
  HALF_MULTIPLY_ADD(v12, f9, v28);
  LOAD_HALF(f11, a1 + 129);
  HALF_MULTIPLY_ADD(v16, f10, v28);
  HALF_MULTIPLY_ADD(v20, f11, v28);
  AS_WIDE(m4);
  SCALE(v0, factor);
  SCALE(v4, factor);
  SCALE(v8, factor);
  SCALE(v12, factor);
  SCALE(v16, factor);
  SCALE(v20, factor);
  LOAD_VECTOR(v24, bias);
  LOAD_VECTOR(v28, bias);
  ADD(v0, v24);
  LOAD_VECTOR(v24, bias);
  ADD(v4, v28);
  LOAD_VECTOR(v28, bias);
  ADD(v8, v24);
  LOAD_VECTOR(v24, bias);
  ADD(v12, v28);
  LOAD_VECTOR(v28, bias);
  ADD(v16, v24);
  ADD(v20, v28);
  STORE_VECTOR(v0, out);
  STORE_VECTOR(v4, out + 64);
  STORE_VECTOR(v8, out + 128);
  STORE_VECTOR(v12, out + 192);
  STORE_VECTOR(v16, out + 256);
  STORE_VECTOR(v20, out + 320);
}

/* 5 sums of 128 terms each, in vectors of 4 registers. */
static void tile_1b(const unsigned short *a, const unsigned short *b, float *out, size_t vl, float factor, const float *bias)
{
  float f0, f1, f2, f3, f4, f5, f6, f7, f8, f9;
  SET_HALF(vl, m2);
  const unsigned short *a1 = a + 512;
  LOAD_HALF(f0, a);
  LOAD_HALF(f1, a + 128);
  LOAD_HALVES(v20, b);
  HALF_MULTIPLY(v0, f0, v20);
  LOAD_HALF(f2, a + 256);
  LOAD_HALVES(v24, b + 32);
  HALF_MULTIPLY(v4, f1, v20);
  LOAD_HALF(f3, a + 384);
  HALF_MULTIPLY(v8, f2, v20);
  LOAD_HALF(f4, a1);
  HALF_MULTIPLY(v12, f3, v20);
  LOAD_HALF(f5, a + 1);
  HALF_MULTIPLY(v16, f4, v20);
  LOAD_HALF(f6, a + 129);
  {
    const unsigned short *b0 = b + 64;
    const unsigned short *b1 = b + 96;
    const unsigned short *const end = a + 126;
    do {
      HALF_MULTIPLY_ADD(v0, f5, v24);
      LOAD_HALF(f7, a + 257);
      LOAD_HALVES(v20, b0);
      HALF_MULTIPLY_ADD(v4, f6, v24);
      LOAD_HALF(f8, a + 385);
      STEP(a, 4);
      HALF_MULTIPLY_ADD(v8, f7, v24);
      LOAD_HALF(f9, a1 + 1);
      STEP(a1, 4);
      HALF_MULTIPLY_ADD(v12, f8, v24);
      LOAD_HALF(f0, a);
      STEP(b0, 128);
      HALF_MULTIPLY_ADD(v16, f9, v24);
      LOAD_HALF(f1, a + 128);
      HALF_MULTIPLY_ADD(v0, f0, v20);
      LOAD_HALF(f2, a + 256);
      LOAD_HALVES(v24, b1);
      HALF_MULTIPLY_ADD(v4, f1, v20);
      LOAD_HALF(f3, a + 384);
      STEP(b1, 128);
      HALF_MULTIPLY_ADD(v8, f2, v20);
      LOAD_HALF(f4, a1);
      HALF_MULTIPLY_ADD(v12, f3, v20);
      LOAD_HALF(f5, a + 1);
      HALF_MULTIPLY_ADD(v16, f4, v20);
      LOAD_HALF(f6, a + 129);
    } while (a != end);
  }
  HALF_MULTIPLY_ADD(v0, f5, v24);
  LOAD_HALF(f7, a + 257);
  HALF_MULTIPLY_ADD(v4, f6, v24);
  LOAD_HALF(f8, a + 385);
  HALF_MULTIPLY_ADD(v8, f7, v24);
  LOAD_HALF(f9, a1 + 1);
  HALF_MULTIPLY_ADD(v12, f8, v24);
  HALF_MULTIPLY_ADD(v16, f9, v24);
  AS_WIDE(m4);
  SCALE(v0, factor);
  SCALE(v4, factor);
  SCALE(v8, factor);
  SCALE(v12, factor);
  SCALE(v16, factor);
  LOAD_VECTOR(v20, bias);
  LOAD_VECTOR(v24, bias);
  ADD(v0, v20);
  LOAD_VECTOR(v20, bias);
  ADD(v4, v24);
  LOAD_VECTOR(v24, bias);
  ADD(v8, v20);
  LOAD_VECTOR(v20, bias);
  ADD(v12, v24);
  ADD(v16, v20);
  STORE_VECTOR(v0, out);
  STORE_VECTOR(v4, out + 64);
  STORE_VECTOR(v8, out + 128);
  STORE_VECTOR(v12, out + 192);
  STORE_VECTOR(v16, out + 256);
}

/* Stage 1: S' [16, 64, 1] = A [64, K] S [16, K, 1], K = 128. */
static void stage_1(const float *s, const float *w, float *out, const float *bias, float *work)
{
  prepare_1(s, work);
  const unsigned short *const state = (const unsigned short *)(work + 80);
  unsigned short *const panels = (unsigned short *)(work + 1104);
  for (size_t p = 0; p < 2; p++) {
    widen_1_32((const unsigned char *)w + p * 2304, panels);
    tile_1a(state, panels, out + p * 32, 32, work[0], bias + p * 32);
    for (size_t l = 0; l < 2; l++) {
      tile_1b(state + l * 640 + 768, panels, out + p * 32 + l * 320 + 384, 32, work[0], bias + p * 32);
    }
  }
}

void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group);
void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group)
{
  (void)x, (void)scratch, (void)y, (void)group;
  stage_1(x, weights, y, weights + 1152, scratch);
}
