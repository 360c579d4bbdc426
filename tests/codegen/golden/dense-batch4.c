/* y [4, 24] from x [4, 40], dense.
 * order 0; rows m2 x4; 8 lanes. */
/* ... */


/* 4 sums of 40 terms each, in vectors of 2 registers. */
static void tile_1a(const float *a, const float *b, float *out, size_t vl, const float *bias)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  SET_VL(vl, m2);
  LOAD_SCALAR(f0, a);
  LOAD_SCALAR(f1, a + 40);
  LOAD_SCALAR(f2, a + 80);
  LOAD_VECTOR(v8, b);
  MULTIPLY(v0, f0, v8);
  LOAD_SCALAR(f3, a + 120);
  LOAD_VECTOR(v10, b + 16);
  MULTIPLY(v2, f1, v8);
  LOAD_SCALAR(f4, a + 1);
  MULTIPLY(v4, f2, v8);
  LOAD_SCALAR(f5, a + 41);
  MULTIPLY(v6, f3, v8);
  LOAD_SCALAR(f6, a + 81);
  {
    const float *b0 = b + 32;
    const float *b1 = b + 48;
    const float *const end = a + 38;
    do {
      MULTIPLY_ADD(v0, f4, v10);
      LOAD_SCALAR(f7, a + 121);
      LOAD_VECTOR(v8, b0);
      MULTIPLY_ADD(v2, f5, v10);
      LOAD_SCALAR(f0, a + 2);
      MULTIPLY_ADD(v4, f6, v10);
      LOAD_SCALAR(f1, a + 42);
      MULTIPLY_ADD(v6, f7, v10);
      LOAD_SCALAR(f2, a + 82);
      MULTIPLY_ADD(v0, f0, v8);
      LOAD_SCALAR(f3, a + 122);
      LOAD_VECTOR(v10, b1);
      MULTIPLY_ADD(v2, f1, v8);
      LOAD_SCALAR(f4, a + 3);
      MULTIPLY_ADD(v4, f2, v8);
      LOAD_SCALAR(f5, a + 43);
      MULTIPLY_ADD(v6, f3, v8);
      LOAD_SCALAR(f6, a + 83);
      STEP(a, 8);
      STEP(b0, 128);
      STEP(b1, 128);
    } while (a != end);
  }
  MULTIPLY_ADD(v0, f4, v10);
  LOAD_SCALAR(f7, a + 121);
  MULTIPLY_ADD(v2, f5, v10);
  MULTIPLY_ADD(v4, f6, v10);
  MULTIPLY_ADD(v6, f7, v10);
  LOAD_VECTOR(v8, bias);
  LOAD_VECTOR(v10, bias);
  ADD(v0, v8);
  LOAD_VECTOR(v8, bias);
  ADD(v2, v10);
  LOAD_VECTOR(v10, bias);
  ADD(v4, v8);
  ADD(v6, v10);
  STORE_VECTOR(v0, out);
  STORE_VECTOR(v2, out + 24);
  STORE_VECTOR(v4, out + 48);
  STORE_VECTOR(v6, out + 72);
}

/* 4 sums of 40 terms each, in vectors of 1 registers. */
static void tile_1b(const float *a, const float *b, float *out, size_t vl, const float *bias)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  SET_VL(vl, m1);
  LOAD_SCALAR(f0, a);
  LOAD_SCALAR(f1, a + 40);
  LOAD_SCALAR(f2, a + 80);
  LOAD_SCALAR(f3, a + 120);
  LOAD_SCALAR(f4, a + 1);
  LOAD_VECTOR(v4, b);
  MULTIPLY(v0, f0, v4);
  LOAD_SCALAR(f5, a + 41);
  LOAD_VECTOR(v5, b + 8);
  MULTIPLY(v1, f1, v4);
  LOAD_SCALAR(f6, a + 81);
  MULTIPLY(v2, f2, v4);
  LOAD_SCALAR(f7, a + 121);
  MULTIPLY(v3, f3, v4);
  LOAD_SCALAR(f0, a + 2);
  {
    const float *b0 = b + 16;
    const float *b1 = b + 24;
    const float *const end = a + 36;
    do {
      MULTIPLY_ADD(v0, f4, v5);
      LOAD_SCALAR(f1, a + 42);
      LOAD_VECTOR(v4, b0);
      MULTIPLY_ADD(v1, f5, v5);
      LOAD_SCALAR(f2, a + 82);
      MULTIPLY_ADD(v2, f6, v5);
      LOAD_SCALAR(f3, a + 122);
      MULTIPLY_ADD(v3, f7, v5);
      LOAD_SCALAR(f4, a + 3);
      MULTIPLY_ADD(v0, f0, v4);
      LOAD_SCALAR(f5, a + 43);
      LOAD_VECTOR(v5, b1);
      MULTIPLY_ADD(v1, f1, v4);
      LOAD_SCALAR(f6, a + 83);
      MULTIPLY_ADD(v2, f2, v4);
      LOAD_SCALAR(f7, a + 123);
      MULTIPLY_ADD(v3, f3, v4);
      LOAD_SCALAR(f0, a + 4);
      STEP(a, 8);
      STEP(b0, 64);
      STEP(b1, 64);
    } while (a != end);
  }
  MULTIPLY_ADD(v0, f4, v5);
  LOAD_SCALAR(f1, a + 42);
  LOAD_VECTOR(v4, b + 304);
  MULTIPLY_ADD(v1, f5, v5);
  LOAD_SCALAR(f2, a + 82);
  MULTIPLY_ADD(v2, f6, v5);
  LOAD_SCALAR(f3, a + 122);
  MULTIPLY_ADD(v3, f7, v5);
  LOAD_SCALAR(f4, a + 3);
  MULTIPLY_ADD(v0, f0, v4);
  LOAD_SCALAR(f5, a + 43);
  LOAD_VECTOR(v5, b + 312);
  MULTIPLY_ADD(v1, f1, v4);
  LOAD_SCALAR(f6, a + 83);
  MULTIPLY_ADD(v2, f2, v4);
  LOAD_SCALAR(f7, a + 123);
  MULTIPLY_ADD(v3, f3, v4);
  MULTIPLY_ADD(v0, f4, v5);
  MULTIPLY_ADD(v1, f5, v5);
  MULTIPLY_ADD(v2, f6, v5);
  MULTIPLY_ADD(v3, f7, v5);
  LOAD_VECTOR(v4, bias);
  LOAD_VECTOR(v5, bias);
  ADD(v0, v4);
  LOAD_VECTOR(v4, bias);
  ADD(v1, v5);
  LOAD_VECTOR(v5, bias);
  ADD(v2, v4);
  ADD(v3, v5);
  STORE_VECTOR(v0, out);
  STORE_VECTOR(v1, out + 24);
  STORE_VECTOR(v2, out + 48);
  STORE_VECTOR(v3, out + 72);
}

/* Stage 1: S' [4, 24, 1] = A [24, K] S [4, K, 1], K = 40. */
static void stage_1(const float *s, const float *w, float *out, const float *bias)
{
  tile_1a(s, w, out, 16, bias);
  tile_1b(s, w + 640, out + 16, 8, bias + 16);
}

void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group);
void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group)
{
  (void)x, (void)scratch, (void)y, (void)group;
  stage_1(x, weights, y, weights + 960);
}
