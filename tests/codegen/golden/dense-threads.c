/* y [1, 24] from x [1, 40], dense, 3 threads.
 * order 0; rows m4 x1; 8 lanes. */
/* ... */


/* 1 sums of 40 terms each, in vectors of 2 registers. */
static void tile_1a(const float *a, const float *b, float *out, size_t vl, const float *bias)
{
  float f0, f1, f2, f3;
  SET_VL(vl, m2);
  LOAD_SCALAR(f0, a);
  LOAD_SCALAR(f1, a + 1);
  LOAD_SCALAR(f2, a + 2);
  LOAD_VECTOR(v2, b);
  LOAD_VECTOR(v4, b + 16);
  LOAD_VECTOR(v6, b + 32);
  MULTIPLY(v0, f0, v2);
  LOAD_SCALAR(f3, a + 3);
  LOAD_VECTOR(v8, b + 48);
  {
    const float *b0 = b + 64;
    const float *b1 = b + 80;
    const float *b2 = b + 96;
    const float *b3 = b + 112;
    const float *const end = a + 36;
    do {
      MULTIPLY_ADD(v0, f1, v4);
      LOAD_SCALAR(f0, a + 4);
      LOAD_VECTOR(v2, b0);
      MULTIPLY_ADD(v0, f2, v6);
      LOAD_SCALAR(f1, a + 5);
      LOAD_VECTOR(v4, b1);
      MULTIPLY_ADD(v0, f3, v8);
      LOAD_SCALAR(f2, a + 6);
      LOAD_VECTOR(v6, b2);
      MULTIPLY_ADD(v0, f0, v2);
      LOAD_SCALAR(f3, a + 7);
      LOAD_VECTOR(v8, b3);
      STEP(a, 16);
      STEP(b0, 256);
      STEP(b1, 256);
      STEP(b2, 256);
      STEP(b3, 256);
    } while (a != end);
  }
  MULTIPLY_ADD(v0, f1, v4);
  MULTIPLY_ADD(v0, f2, v6);
  MULTIPLY_ADD(v0, f3, v8);
  LOAD_VECTOR(v2, bias);
  ADD(v0, v2);
  STORE_VECTOR(v0, out);
}

/* 1 sums of 40 terms each, in vectors of 1 registers. */
static void tile_1b(const float *a, const float *b, float *out, size_t vl, const float *bias)
{
  float f0, f1, f2, f3;
  SET_VL(vl, m1);
  LOAD_SCALAR(f0, a);
  LOAD_SCALAR(f1, a + 1);
  LOAD_SCALAR(f2, a + 2);
  LOAD_VECTOR(v1, b);
  LOAD_VECTOR(v2, b + 8);
  LOAD_VECTOR(v3, b + 16);
  MULTIPLY(v0, f0, v1);
  LOAD_SCALAR(f3, a + 3);
  LOAD_VECTOR(v4, b + 24);
  {
    const float *b0 = b + 32;
    const float *b1 = b + 40;
    const float *b2 = b + 48;
    const float *b3 = b + 56;
    const float *const end = a + 36;
    do {
      MULTIPLY_ADD(v0, f1, v2);
      LOAD_SCALAR(f0, a + 4);
      LOAD_VECTOR(v1, b0);
      MULTIPLY_ADD(v0, f2, v3);
      LOAD_SCALAR(f1, a + 5);
      LOAD_VECTOR(v2, b1);
      MULTIPLY_ADD(v0, f3, v4);
      LOAD_SCALAR(f2, a + 6);
      LOAD_VECTOR(v3, b2);
      MULTIPLY_ADD(v0, f0, v1);
      LOAD_SCALAR(f3, a + 7);
      LOAD_VECTOR(v4, b3);
      STEP(a, 16);
      STEP(b0, 128);
      STEP(b1, 128);
      STEP(b2, 128);
      STEP(b3, 128);
    } while (a != end);
  }
  MULTIPLY_ADD(v0, f1, v2);
  MULTIPLY_ADD(v0, f2, v3);
  MULTIPLY_ADD(v0, f3, v4);
  LOAD_VECTOR(v1, bias);
  ADD(v0, v1);
  STORE_VECTOR(v0, out);
}

/* Stage 1: S' [1, 24, 1] = A [24, K] S [1, K, 1], K = 40. */
static void stage_1(const float *s, const float *w, float *out, const float *bias, size_t group)
{
  for (size_t p = 1 * group / 3; p < 1 * (group + 1) / 3; p++) {
    tile_1a(s, w, out, 16, bias);
  }
  for (size_t p = 1 * group / 3; p < 1 * (group + 1) / 3; p++) {
    tile_1b(s, w + 640, out + 16, 8, bias + 16);
  }
}

void kernel_1(const float *x, const float *weights, float *scratch, float *y, size_t group);
void kernel_1(const float *x, const float *weights, float *scratch, float *y, size_t group)
{
  (void)x, (void)scratch, (void)y, (void)group;
  stage_1(x, weights, y, weights + 960, group);
}
