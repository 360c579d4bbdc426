/* y [1, 24] from x [1, 24], 4x3x2 / 2x3x4, ranks 4,4.
 * order 2,1,0; rows m1 x6 | rows m2 x4 | columns m1 x4; 8 lanes. */
/* ... */


/* 6 sums of 4 terms each, in vectors of 1 registers. */
static void tile_1a(const float *a, const float *b, float *out, size_t vl)
{
  float f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11;
  SET_VL(vl, m1);
  LOAD_SCALAR(f0, a);
  LOAD_SCALAR(f1, a + 4);
  LOAD_SCALAR(f2, a + 8);
  LOAD_SCALAR(f3, a + 12);
  LOAD_SCALAR(f4, a + 16);
  LOAD_VECTOR(v6, b);
  MULTIPLY(v0, f0, v6);
  LOAD_SCALAR(f5, a + 20);
  LOAD_VECTOR(v7, b + 8);
  MULTIPLY(v1, f1, v6);
  LOAD_SCALAR(f6, a + 1);
  MULTIPLY(v2, f2, v6);
  LOAD_SCALAR(f7, a + 5);
  MULTIPLY(v3, f3, v6);
  LOAD_SCALAR(f8, a + 9);
  MULTIPLY(v4, f4, v6);
  LOAD_SCALAR(f9, a + 13);
  MULTIPLY(v5, f5, v6);
  LOAD_SCALAR(f10, a + 17);
  {
    const float *b0 = b + 16;
    const float *b1 = b + 24;
    const float *const end = a + 2;
    do {
      MULTIPLY_ADD(v0, f6, v7);
      LOAD_SCALAR(f11, a + 21);
      LOAD_VECTOR(v6, b0);
      MULTIPLY_ADD(v1, f7, v7);
      LOAD_SCALAR(f0, a + 2);
      MULTIPLY_ADD(v2, f8, v7);
      LOAD_SCALAR(f1, a + 6);
      MULTIPLY_ADD(v3, f9, v7);
      LOAD_SCALAR(f2, a + 10);
      MULTIPLY_ADD(v4, f10, v7);
      LOAD_SCALAR(f3, a + 14);
      MULTIPLY_ADD(v5, f11, v7);
      LOAD_SCALAR(f4, a + 18);
      MULTIPLY_ADD(v0, f0, v6);
      LOAD_SCALAR(f5, a + 22);
      LOAD_VECTOR(v7, b1);
      MULTIPLY_ADD(v1, f1, v6);
      LOAD_SCALAR(f6, a + 3);
      MULTIPLY_ADD(v2, f2, v6);
      LOAD_SCALAR(f7, a + 7);
      MULTIPLY_ADD(v3, f3, v6);
      LOAD_SCALAR(f8, a + 11);
      MULTIPLY_ADD(v4, f4, v6);
      LOAD_SCALAR(f9, a + 15);
      MULTIPLY_ADD(v5, f5, v6);
      LOAD_SCALAR(f10, a + 19);
      STEP(a, 8);
      STEP(b0, 64);
      STEP(b1, 64);
    } while (a != end);
  }
  MULTIPLY_ADD(v0, f6, v7);
  LOAD_SCALAR(f11, a + 21);
  MULTIPLY_ADD(v1, f7, v7);
  MULTIPLY_ADD(v2, f8, v7);
  MULTIPLY_ADD(v3, f9, v7);
  MULTIPLY_ADD(v4, f10, v7);
  MULTIPLY_ADD(v5, f11, v7);
  STORE_VECTOR(v0, out);
  STORE_VECTOR(v1, out + 8);
  STORE_VECTOR(v2, out + 16);
  STORE_VECTOR(v3, out + 24);
  STORE_VECTOR(v4, out + 32);
  STORE_VECTOR(v5, out + 40);
}

/* Stage 1: S' [6, 8, 1] = A [8, K] S [6, K, 1], K = 4. */
static void stage_1(const float *s, const float *w, float *out)
{
  tile_1a(s, w, out, 8);
}

/* 4 sums of 12 terms each, in vectors of 2 registers. */
static void tile_2a(const float *a, const float *b, float *out, size_t vl)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  SET_VL(vl, m2);
  LOAD_SCALAR(f0, a);
  LOAD_SCALAR(f1, a + 1);
  LOAD_SCALAR(f2, a + 24);
  LOAD_VECTOR(v8, b);
  MULTIPLY(v0, f0, v8);
  LOAD_SCALAR(f3, a + 25);
  LOAD_VECTOR(v10, b + 16);
  MULTIPLY(v2, f1, v8);
  LOAD_SCALAR(f4, a + 2);
  MULTIPLY(v4, f2, v8);
  LOAD_SCALAR(f5, a + 3);
  MULTIPLY(v6, f3, v8);
  LOAD_SCALAR(f6, a + 26);
  {
    const float *b0 = b + 32;
    const float *b1 = b + 48;
    const float *const end = a + 20;
    do {
      MULTIPLY_ADD(v0, f4, v10);
      LOAD_SCALAR(f7, a + 27);
      LOAD_VECTOR(v8, b0);
      MULTIPLY_ADD(v2, f5, v10);
      LOAD_SCALAR(f0, a + 4);
      MULTIPLY_ADD(v4, f6, v10);
      LOAD_SCALAR(f1, a + 5);
      MULTIPLY_ADD(v6, f7, v10);
      LOAD_SCALAR(f2, a + 28);
      MULTIPLY_ADD(v0, f0, v8);
      LOAD_SCALAR(f3, a + 29);
      LOAD_VECTOR(v10, b1);
      MULTIPLY_ADD(v2, f1, v8);
      LOAD_SCALAR(f4, a + 6);
      MULTIPLY_ADD(v4, f2, v8);
      LOAD_SCALAR(f5, a + 7);
      MULTIPLY_ADD(v6, f3, v8);
      LOAD_SCALAR(f6, a + 30);
      STEP(a, 16);
      STEP(b0, 128);
      STEP(b1, 128);
    } while (a != end);
  }
  MULTIPLY_ADD(v0, f4, v10);
  LOAD_SCALAR(f7, a + 27);
  MULTIPLY_ADD(v2, f5, v10);
  MULTIPLY_ADD(v4, f6, v10);
  MULTIPLY_ADD(v6, f7, v10);
  STORE_STRIDED(v0, out, (size_t)8);
  STORE_STRIDED(v2, out + 1, (size_t)8);
  STORE_STRIDED(v4, out + 24, (size_t)8);
  STORE_STRIDED(v6, out + 25, (size_t)8);
}

/* Stage 2: S' [2, 12, 2] = A [12, K] S [2, K, 2], K = 12. */
static void stage_2(const float *s, const float *w, float *out)
{
  tile_2a(s, w, out, 12);
}

/* 4 sums of 8 terms each, in vectors of 1 registers. */
static void tile_3a(const float *a, const float *b, float *out, size_t vl, const float *bias)
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
  LOAD_VECTOR(v5, b + 6);
  MULTIPLY(v1, f1, v4);
  LOAD_SCALAR(f6, a + 6);
  MULTIPLY(v2, f2, v4);
  LOAD_SCALAR(f7, a + 7);
  MULTIPLY(v3, f3, v4);
  LOAD_SCALAR(f0, a + 8);
  {
    const float *b0 = b + 12;
    const float *b1 = b + 18;
    const float *const end = a + 16;
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
      STEP(b0, 48);
      STEP(b1, 48);
    } while (a != end);
  }
  MULTIPLY_ADD(v0, f4, v5);
  LOAD_SCALAR(f1, a + 9);
  LOAD_VECTOR(v4, b + 36);
  MULTIPLY_ADD(v1, f5, v5);
  LOAD_SCALAR(f2, a + 10);
  MULTIPLY_ADD(v2, f6, v5);
  LOAD_SCALAR(f3, a + 11);
  MULTIPLY_ADD(v3, f7, v5);
  LOAD_SCALAR(f4, a + 12);
  MULTIPLY_ADD(v0, f0, v4);
  LOAD_SCALAR(f5, a + 13);
  LOAD_VECTOR(v5, b + 42);
  MULTIPLY_ADD(v1, f1, v4);
  LOAD_SCALAR(f6, a + 14);
  MULTIPLY_ADD(v2, f2, v4);
  LOAD_SCALAR(f7, a + 15);
  MULTIPLY_ADD(v3, f3, v4);
  MULTIPLY_ADD(v0, f4, v5);
  MULTIPLY_ADD(v1, f5, v5);
  MULTIPLY_ADD(v2, f6, v5);
  MULTIPLY_ADD(v3, f7, v5);
  LOAD_VECTOR(v4, bias);
  LOAD_VECTOR(v5, bias + 6);
  ADD(v0, v4);
  LOAD_VECTOR(v4, bias + 12);
  ADD(v1, v5);
  LOAD_VECTOR(v5, bias + 18);
  ADD(v2, v4);
  ADD(v3, v5);
  STORE_VECTOR(v0, out);
  STORE_VECTOR(v1, out + 6);
  STORE_VECTOR(v2, out + 12);
  STORE_VECTOR(v3, out + 18);
}

/* Stage 3: S' [1, 4, 6] = A [4, K] S [1, K, 6], K = 8. */
static void stage_3(const float *s, const float *w, float *out, const float *bias)
{
  tile_3a(w, s, out, 6, bias);
}

void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group);
void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group)
{
  (void)x, (void)scratch, (void)y, (void)group;
  stage_1(x, weights, scratch);
  stage_2(scratch, weights + 32, scratch + 48);
  stage_3(scratch + 48, weights + 224, y, weights + 256);
}
