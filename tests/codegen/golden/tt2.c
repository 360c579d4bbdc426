/* y [1, 32] from x [1, 32], 8x4 / 4x8, ranks 8.
 * order 1,0; rows m4 x4 | rows m1 x4; 8 lanes. */
/* ... */


/* 4 sums of 8 terms each, in vectors of 4 registers. */
static void tile_1a(const float *a, const float *b, float *out, size_t vl)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  SET_VL(vl, m4);
  LOAD_SCALAR(f0, a);
  LOAD_SCALAR(f1, a + 8);
  LOAD_VECTOR(v16, b);
  MULTIPLY(v0, f0, v16);
  LOAD_SCALAR(f2, a + 16);
  LOAD_VECTOR(v20, b + 32);
  MULTIPLY(v4, f1, v16);
  LOAD_SCALAR(f3, a + 24);
  MULTIPLY(v8, f2, v16);
  LOAD_SCALAR(f4, a + 1);
  MULTIPLY(v12, f3, v16);
  LOAD_SCALAR(f5, a + 9);
  {
    const float *b0 = b + 64;
    const float *b1 = b + 96;
    const float *const end = a + 6;
    do {
      MULTIPLY_ADD(v0, f4, v20);
      LOAD_SCALAR(f6, a + 17);
      LOAD_VECTOR(v16, b0);
      MULTIPLY_ADD(v4, f5, v20);
      LOAD_SCALAR(f7, a + 25);
      STEP(a, 8);
      MULTIPLY_ADD(v8, f6, v20);
      LOAD_SCALAR(f0, a);
      STEP(b0, 256);
      MULTIPLY_ADD(v12, f7, v20);
      LOAD_SCALAR(f1, a + 8);
      MULTIPLY_ADD(v0, f0, v16);
      LOAD_SCALAR(f2, a + 16);
      LOAD_VECTOR(v20, b1);
      MULTIPLY_ADD(v4, f1, v16);
      LOAD_SCALAR(f3, a + 24);
      STEP(b1, 256);
      MULTIPLY_ADD(v8, f2, v16);
      LOAD_SCALAR(f4, a + 1);
      MULTIPLY_ADD(v12, f3, v16);
      LOAD_SCALAR(f5, a + 9);
    } while (a != end);
  }
  MULTIPLY_ADD(v0, f4, v20);
  LOAD_SCALAR(f6, a + 17);
  MULTIPLY_ADD(v4, f5, v20);
  LOAD_SCALAR(f7, a + 25);
  MULTIPLY_ADD(v8, f6, v20);
  STORE_VECTOR(v0, out);
  MULTIPLY_ADD(v12, f7, v20);
  STORE_VECTOR(v4, out + 32);
  STORE_VECTOR(v8, out + 64);
  STORE_VECTOR(v12, out + 96);
}

/* Stage 1: S' [4, 32, 1] = A [32, K] S [4, K, 1], K = 8. */
static void stage_1(const float *s, const float *w, float *out)
{
  tile_1a(s, w, out, 32);
}

/* 4 sums of 32 terms each, in vectors of 1 registers. */
static void tile_2a(const float *a, const float *b, float *out, size_t vl, const float *bias)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  SET_VL(vl, m1);
  LOAD_SCALAR(f0, a);
  LOAD_SCALAR(f1, a + 1);
  LOAD_SCALAR(f2, a + 2);
  LOAD_SCALAR(f3, a + 3);
  LOAD_SCALAR(f4, a + 4);
  LOAD_VECTOR(v4, b);
  MULTIPLY(v0, f0, v4);
  LOAD_SCALAR(f5, a + 5);
  LOAD_VECTOR(v5, b + 8);
  MULTIPLY(v1, f1, v4);
  LOAD_SCALAR(f6, a + 6);
  MULTIPLY(v2, f2, v4);
  LOAD_SCALAR(f7, a + 7);
  MULTIPLY(v3, f3, v4);
  LOAD_SCALAR(f0, a + 8);
  {
    const float *b0 = b + 16;
    const float *b1 = b + 24;
    const float *const end = a + 112;
    do {
      MULTIPLY_ADD(v0, f4, v5);
      LOAD_SCALAR(f1, a + 9);
      LOAD_VECTOR(v4, b0);
      MULTIPLY_ADD(v1, f5, v5);
      LOAD_SCALAR(f2, a + 10);
      MULTIPLY_ADD(v2, f6, v5);
      LOAD_SCALAR(f3, a + 11);
      MULTIPLY_ADD(v3, f7, v5);
      LOAD_SCALAR(f4, a + 12);
      MULTIPLY_ADD(v0, f0, v4);
      LOAD_SCALAR(f5, a + 13);
      LOAD_VECTOR(v5, b1);
      MULTIPLY_ADD(v1, f1, v4);
      LOAD_SCALAR(f6, a + 14);
      MULTIPLY_ADD(v2, f2, v4);
      LOAD_SCALAR(f7, a + 15);
      MULTIPLY_ADD(v3, f3, v4);
      LOAD_SCALAR(f0, a + 16);
      STEP(a, 32);
      STEP(b0, 64);
      STEP(b1, 64);
    } while (a != end);
  }
  MULTIPLY_ADD(v0, f4, v5);
  LOAD_SCALAR(f1, a + 9);
  LOAD_VECTOR(v4, b + 240);
  MULTIPLY_ADD(v1, f5, v5);
  LOAD_SCALAR(f2, a + 10);
  MULTIPLY_ADD(v2, f6, v5);
  LOAD_SCALAR(f3, a + 11);
  MULTIPLY_ADD(v3, f7, v5);
  LOAD_SCALAR(f4, a + 12);
  MULTIPLY_ADD(v0, f0, v4);
  LOAD_SCALAR(f5, a + 13);
  LOAD_VECTOR(v5, b + 248);
  MULTIPLY_ADD(v1, f1, v4);
  LOAD_SCALAR(f6, a + 14);
  MULTIPLY_ADD(v2, f2, v4);
  LOAD_SCALAR(f7, a + 15);
  MULTIPLY_ADD(v3, f3, v4);
  MULTIPLY_ADD(v0, f4, v5);
  MULTIPLY_ADD(v1, f5, v5);
  MULTIPLY_ADD(v2, f6, v5);
  MULTIPLY_ADD(v3, f7, v5);
  LOAD_STRIDED(v4, bias, (size_t)16);
  LOAD_STRIDED(v5, bias + 1, (size_t)16);
  ADD(v0, v4);
  LOAD_STRIDED(v4, bias + 2, (size_t)16);
  ADD(v1, v5);
  LOAD_STRIDED(v5, bias + 3, (size_t)16);
  ADD(v2, v4);
  ADD(v3, v5);
  STORE_STRIDED(v0, out, (size_t)16);
  STORE_STRIDED(v1, out + 1, (size_t)16);
  STORE_STRIDED(v2, out + 2, (size_t)16);
  STORE_STRIDED(v3, out + 3, (size_t)16);
}

/* Stage 2: S' [1, 8, 4] = A [8, K] S [1, K, 4], K = 32. */
static void stage_2(const float *s, const float *w, float *out, const float *bias)
{
  tile_2a(s, w, out, 8, bias);
}

void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group);
void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group)
{
  (void)x, (void)scratch, (void)y, (void)group;
  stage_1(x, weights, scratch);
  stage_2(scratch, weights + 256, y, weights + 512);
}
