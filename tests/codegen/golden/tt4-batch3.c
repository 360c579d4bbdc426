/* y [3, 32] from x [3, 32], 4x2x2x2 / 2x2x2x4, ranks 4,5,4.
 * order 1,0; merged 1,3; rows m4 x3 | columns m1 x4; 8 lanes. */
/* ... */


/* 3 sums of 16 terms each, in vectors of 4 registers, 2 times. */
static void tile_1a(const float *a, const float *b, float *out, size_t vl)
{
  float f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11;
  SET_VL(vl, m4);
  LOAD_SCALAR(f0, a);
  LOAD_SCALAR(f1, a + 16);
  LOAD_VECTOR(v12, b);
  LOAD_VECTOR(v16, b + 32);
  LOAD_VECTOR(v20, b + 64);
  MULTIPLY(v0, f0, v12);
  LOAD_SCALAR(f2, a + 32);
  LOAD_VECTOR(v24, b + 96);
  MULTIPLY(v4, f1, v12);
  LOAD_SCALAR(f3, a + 1);
  MULTIPLY(v8, f2, v12);
  LOAD_SCALAR(f4, a + 17);
  for (size_t left = 1;; left--) {
    /* The last one loads itself again. */
    const ptrdiff_t on = (left ? 48 : 0) - 12;
    const float *next_b = b + (left ? 0 : 0);
    {
      const float *b0 = b + 128;
      const float *b1 = b + 160;
      const float *b2 = b + 192;
      const float *b3 = b + 224;
      const float *const end = a + 12;
      do {
        MULTIPLY_ADD(v0, f3, v16);
        LOAD_SCALAR(f5, a + 33);
        LOAD_VECTOR(v12, b0);
        MULTIPLY_ADD(v4, f4, v16);
        LOAD_SCALAR(f6, a + 2);
        STEP(a, 16);
        MULTIPLY_ADD(v8, f5, v16);
        LOAD_SCALAR(f7, a + 14);
        STEP(b0, 512);
        MULTIPLY_ADD(v0, f6, v20);
        LOAD_SCALAR(f8, a + 30);
        LOAD_VECTOR(v16, b1);
        MULTIPLY_ADD(v4, f7, v20);
        LOAD_SCALAR(f9, a + -1);
        STEP(b1, 512);
        MULTIPLY_ADD(v8, f8, v20);
        LOAD_SCALAR(f10, a + 15);
        MULTIPLY_ADD(v0, f9, v24);
        LOAD_SCALAR(f11, a + 31);
        LOAD_VECTOR(v20, b2);
        MULTIPLY_ADD(v4, f10, v24);
        LOAD_SCALAR(f0, a);
        STEP(b2, 512);
        MULTIPLY_ADD(v8, f11, v24);
        LOAD_SCALAR(f1, a + 16);
        MULTIPLY_ADD(v0, f0, v12);
        LOAD_SCALAR(f2, a + 32);
        LOAD_VECTOR(v24, b3);
        MULTIPLY_ADD(v4, f1, v12);
        LOAD_SCALAR(f3, a + 1);
        STEP(b3, 512);
        MULTIPLY_ADD(v8, f2, v12);
        LOAD_SCALAR(f4, a + 17);
      } while (a != end);
    }
    MULTIPLY_ADD(v0, f3, v16);
    LOAD_SCALAR(f5, a + 33);
    LOAD_VECTOR(v12, next_b);
    MULTIPLY_ADD(v4, f4, v16);
    LOAD_SCALAR(f6, a + 2);
    MULTIPLY_ADD(v8, f5, v16);
    LOAD_SCALAR(f7, a + 18);
    MULTIPLY_ADD(v0, f6, v20);
    LOAD_SCALAR(f8, a + 34);
    LOAD_VECTOR(v16, next_b + 32);
    MULTIPLY_ADD(v4, f7, v20);
    LOAD_SCALAR(f9, a + 3);
    MULTIPLY_ADD(v8, f8, v20);
    LOAD_SCALAR(f10, a + 19);
    MULTIPLY_ADD(v0, f9, v24);
    LOAD_SCALAR(f11, a + 35);
    LOAD_VECTOR(v20, next_b + 64);
    MULTIPLY_ADD(v4, f10, v24);
    a += on;
    LOAD_SCALAR(f0, a);
    STORE_VECTOR(v0, out);
    MULTIPLY_ADD(v8, f11, v24);
    LOAD_SCALAR(f1, a + 16);
    if (!left) break;
    b = next_b;
    MULTIPLY(v0, f0, v12);
    LOAD_SCALAR(f2, a + 32);
    LOAD_VECTOR(v24, b + 96);
    STORE_VECTOR(v4, out + 32);
    MULTIPLY(v4, f1, v12);
    LOAD_SCALAR(f3, a + 1);
    STORE_VECTOR(v8, out + 64);
    MULTIPLY(v8, f2, v12);
    LOAD_SCALAR(f4, a + 17);
    out += 96;
  }
  STORE_VECTOR(v4, out + 32);
  STORE_VECTOR(v8, out + 64);
}

/* Stage 1: S' [6, 32, 1] = A [32, K] S [6, K, 1], K = 16. */
static void stage_1(const float *s, const float *w, float *out)
{
  tile_1a(s, w, out, 32);
}

/* 4 sums of 8 terms each, in vectors of 1 registers. */
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
      STEP(b0, 64);
      STEP(b1, 64);
    } while (a != end);
  }
  MULTIPLY_ADD(v0, f4, v5);
  LOAD_SCALAR(f1, a + 9);
  LOAD_VECTOR(v4, b + 48);
  MULTIPLY_ADD(v1, f5, v5);
  LOAD_SCALAR(f2, a + 10);
  MULTIPLY_ADD(v2, f6, v5);
  LOAD_SCALAR(f3, a + 11);
  MULTIPLY_ADD(v3, f7, v5);
  LOAD_SCALAR(f4, a + 12);
  MULTIPLY_ADD(v0, f0, v4);
  LOAD_SCALAR(f5, a + 13);
  LOAD_VECTOR(v5, b + 56);
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
  LOAD_VECTOR(v5, bias + 8);
  ADD(v0, v4);
  LOAD_VECTOR(v4, bias + 16);
  ADD(v1, v5);
  LOAD_VECTOR(v5, bias + 24);
  ADD(v2, v4);
  ADD(v3, v5);
  STORE_VECTOR(v0, out);
  STORE_VECTOR(v1, out + 8);
  STORE_VECTOR(v2, out + 16);
  STORE_VECTOR(v3, out + 24);
}

/* Stage 2: S' [3, 4, 8] = A [4, K] S [3, K, 8], K = 8. */
static void stage_2(const float *s, const float *w, float *out, const float *bias)
{
  for (size_t l = 0; l < 3; l++) {
    tile_2a(w, s + l * 64, out + l * 32, 8, bias);
  }
}

void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group);
void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group)
{
  (void)x, (void)scratch, (void)y, (void)group;
  stage_1(x, weights, scratch);
  stage_2(scratch, weights + 512, y, weights + 544);
}
