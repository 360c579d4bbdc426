/* y [1, 24] from x [1, 64], dense.
 * order 0; stream m4 x2; half precision products; 8 lanes. */
/* ... */


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
  back.bits = (largest.bits & 0x7f800000) + 201326592;
  work[0] = back.value;
  unsigned short *half = (unsigned short *)(work + 32);
  float sum;
  SET_WIDE(32, m4);
  CLEAR(v24);
  LOAD_FLOATS(v0, s + 0);
  LOAD_FLOATS(v4, s + 32);
  SCALE(v0, scale.value);
  SCALE(v4, scale.value);
  AS_HALF(m2);
  TO_HALF(v16, v0);
  TO_HALF(v18, v4);
  STORE_HALVES(v16, half + 0);
  STORE_HALVES(v18, half + 32);
  ADD_HALVES(v24, v16);
  ADD_HALVES(v24, v18);
  SET_HALF(64, m4);
  CLEAR(v0);
  STORE_HALVES(v0, half + 64);
  SET_WIDE(32, m4);
  FIRST_FROM(v16, 0.0f);
  SUM(v16, v24);
  FIRST_TO(sum, v16);
  work[1] = sum * 0x1.0000000000000p-17f;
}

/* The state in half precision. */
static void prepare_1(const float *s, float *work)
{
  unsigned short *half = (unsigned short *)(work + 32);
  SET_HALF(64, m4);
  CLEAR(v0);
  STORE_HALVES(v0, half + 64);
  SET_WIDE(32, m4);
  CLEAR(v24);
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
  ADD_HALVES(v24, v8);
  ADD_HALVES(v24, v10);
  LARGEST_BITS(v16, v8);
  LARGEST_BITS(v16, v10);
  LARGEST_BITS_BELOW_0(v18, v8);
  LARGEST_BITS_BELOW_0(v18, v10);
  REDUCE_BITS(v16, v16);
  REDUCE_BITS_BELOW_0(v18, v18);
  long above, below;
  BITS_TO(above, v16);
  BITS_TO(below, v18);
  AS_WIDE(m4);
  FIRST_FROM(v8, 0.0f);
  SUM(v8, v24);
  float sum;
  FIRST_TO(sum, v8);
  work[1] = sum * 0x1.0000000000000p-17f;
  const unsigned long largest = (below & 0x7fff) > above ? (below & 0x7fff) : above;
  work[0] = 0x1p24f;
  if (largest - 0x1400 >= 0x5c00) slowly_1(s, work);
}

/* Panels of 24 rows, 32 vectors of codes each. */
static void stream_1a(const unsigned short *x0, const unsigned char *panel, float *out, const float *bias, const float *work, size_t count)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  const unsigned short *x = x0;
  const unsigned char *p = panel;
  const float factor = work[0];
  const float taken = work[1];
  unsigned long low_byte = 0xff;
  KEEP(low_byte);
  (void)x;
  SET_WIDE(24, m4);
  AS_HALF(m2);
  LOAD_HALVES(v20, p);
  STEP(p, 48);
  LOAD_HALVES(v22, p);
  STEP(p, 48);
  LOAD_HALVES(v24, p);
  STEP(p, 48);
  LOAD_HALVES(v26, p);
  STEP(p, 48);
  BITS(v16, v20, low_byte);
  BITS_FROM(v18, v20, 8);
  LOAD_HALVES(v20, p);
  STEP(p, 48);
  for (size_t left = count - 1;; left--) {
    const unsigned char *next = left ? panel + 1632 : panel;
    x = x0;
    LOAD_HALF(f0, x);
    LOAD_HALF(f1, x + 1);
    LOAD_HALF(f2, x + 2);
    LOAD_HALF(f3, x + 3);
    LOAD_HALF(f4, x + 4);
    LOAD_HALF(f5, x + 5);
    HALF_MULTIPLY(v0, f0, v16);
    BITS(v16, v22, low_byte);
    LOAD_HALF(f6, x + 6);
    HALF_MULTIPLY(v4, f1, v18);
    BITS_FROM(v18, v22, 8);
    LOAD_HALF(f7, x + 7);
    LOAD_HALVES(v22, p);
    STEP(p, 48);
    for (size_t turn = 0; turn < 6; turn++) {
      HALF_MULTIPLY_ADD(v0, f2, v16);
      BITS(v16, v24, low_byte);
      LOAD_HALF(f0, x + 8);
      HALF_MULTIPLY_ADD(v4, f3, v18);
      BITS_FROM(v18, v24, 8);
      LOAD_HALF(f1, x + 9);
      LOAD_HALVES(v24, p);
      STEP(p, 48);
      HALF_MULTIPLY_ADD(v0, f4, v16);
      BITS(v16, v26, low_byte);
      LOAD_HALF(f2, x + 10);
      HALF_MULTIPLY_ADD(v4, f5, v18);
      BITS_FROM(v18, v26, 8);
      LOAD_HALF(f3, x + 11);
      LOAD_HALVES(v26, p);
      STEP(p, 48);
      HALF_MULTIPLY_ADD(v0, f6, v16);
      BITS(v16, v20, low_byte);
      LOAD_HALF(f4, x + 12);
      HALF_MULTIPLY_ADD(v4, f7, v18);
      BITS_FROM(v18, v20, 8);
      LOAD_HALF(f5, x + 13);
      LOAD_HALVES(v20, p);
      STEP(p, 48);
      HALF_MULTIPLY_ADD(v0, f0, v16);
      BITS(v16, v22, low_byte);
      LOAD_HALF(f6, x + 14);
      HALF_MULTIPLY_ADD(v4, f1, v18);
      BITS_FROM(v18, v22, 8);
      LOAD_HALF(f7, x + 15);
      LOAD_HALVES(v22, p);
      STEP(p, 48);
      x += 8;
    }
    HALF_MULTIPLY_ADD(v0, f2, v16);
    BITS(v16, v24, low_byte);
    LOAD_HALF(f0, x + 8);
    HALF_MULTIPLY_ADD(v4, f3, v18);
    BITS_FROM(v18, v24, 8);
    LOAD_HALF(f1, x + 9);
    LOAD_HALVES(v24, p);
    STEP(p, 48);
    HALF_MULTIPLY_ADD(v0, f4, v16);
    BITS(v16, v26, low_byte);
    LOAD_HALF(f2, x + 10);
    HALF_MULTIPLY_ADD(v4, f5, v18);
    BITS_FROM(v18, v26, 8);
    LOAD_HALF(f3, x + 11);
    LOAD_HALVES(v26, p);
    STEP(p, 48);
    HALF_MULTIPLY_ADD(v0, f6, v16);
    BITS(v16, v20, low_byte);
    LOAD_HALF(f4, x + 12);
    HALF_MULTIPLY_ADD(v4, f7, v18);
    BITS_FROM(v18, v20, 8);
    LOAD_HALF(f5, x + 13);
    p = next;
    LOAD_HALVES(v20, p);
    STEP(p, 48);
    HALF_MULTIPLY_ADD(v0, f0, v16);
    BITS(v16, v22, low_byte);
    LOAD_HALF(f6, x + 14);
    HALF_MULTIPLY_ADD(v4, f1, v18);
    BITS_FROM(v18, v22, 8);
    LOAD_HALF(f7, x + 15);
    LOAD_HALVES(v22, p);
    STEP(p, 48);
    HALF_MULTIPLY_ADD(v0, f2, v16);
    BITS(v16, v24, low_byte);
    HALF_MULTIPLY_ADD(v4, f3, v18);
    BITS_FROM(v18, v24, 8);
    LOAD_HALVES(v24, p);
    STEP(p, 48);
    LOAD_FLOATS(v8, panel + 1536);
    LOAD_FLOATS(v12, bias);
    HALF_MULTIPLY_ADD(v0, f4, v16);
    BITS(v16, v26, low_byte);
    HALF_MULTIPLY_ADD(v4, f5, v18);
    BITS_FROM(v18, v26, 8);
    LOAD_HALVES(v26, p);
    STEP(p, 48);
    HALF_MULTIPLY_ADD(v0, f6, v16);
    BITS(v16, v20, low_byte);
    HALF_MULTIPLY_ADD(v4, f7, v18);
    BITS_FROM(v18, v20, 8);
    LOAD_HALVES(v20, p);
    STEP(p, 48);
    AS_WIDE(m4);
    SCALE(v8, factor);
    TAKE_OFF(v12, taken, v8);
    MULTIPLY_ADD_EACH(v12, v8, v0);
    MULTIPLY_ADD_EACH(v12, v8, v4);
    STORE_FLOATS(v12, out);
    AS_HALF(m2);
    if (!left) break;
    panel = next;
    out += 24;
    bias += 24;
  }
}

/* Stage 1: S' [24] = A [24, 64] S, int8. */
static void stage_1(const float *s, const float *w, float *out, const float *bias, float *work)
{
  prepare_1(s, work);
  stream_1a((const unsigned short *)(work + 32), (const unsigned char *)w, out, bias, work, 1);
}

void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group);
void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group)
{
  (void)x, (void)scratch, (void)y, (void)group;
  stage_1(x, weights, y, weights + 416, scratch);
}
