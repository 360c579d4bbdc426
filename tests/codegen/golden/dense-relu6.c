/* y [1, 24] from x [1, 40], dense.
 * order 0; stream m2 x2; 8 lanes. */
/* ... */


/* Panels of 16 rows, 40 vectors of codes each. */
static void stream_1a(const float *x0, const unsigned char *panel, float *out, const float *bias, size_t count)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  const float *x = x0;
  const unsigned char *p = panel;
  (void)x;
  SET_WIDE(16, m2);
  LOAD_FLOATS(v6, p);
  STEP(p, 64);
  LOAD_FLOATS(v8, p);
  STEP(p, 64);
  LOAD_FLOATS(v10, p);
  STEP(p, 64);
  LOAD_FLOATS(v12, p);
  STEP(p, 64);
  LOAD_FLOATS(v14, p);
  STEP(p, 64);
  LOAD_FLOATS(v16, p);
  STEP(p, 64);
  LOAD_FLOATS(v18, p);
  STEP(p, 64);
  LOAD_FLOATS(v20, p);
  STEP(p, 64);
  for (size_t left = count - 1;; left--) {
    const unsigned char *next = left ? panel + 2560 : panel;
    x = x0;
    LOAD_SCALAR(f0, x);
    LOAD_SCALAR(f1, x + 1);
    LOAD_SCALAR(f2, x + 2);
    LOAD_SCALAR(f3, x + 3);
    LOAD_SCALAR(f4, x + 4);
    LOAD_SCALAR(f5, x + 5);
    MULTIPLY(v0, f0, v6);
    LOAD_SCALAR(f6, x + 6);
    LOAD_FLOATS(v6, p);
    STEP(p, 64);
    MULTIPLY(v2, f1, v8);
    LOAD_SCALAR(f7, x + 7);
    LOAD_FLOATS(v8, p);
    STEP(p, 64);
    for (size_t turn = 0; turn < 3; turn++) {
      MULTIPLY_ADD(v0, f2, v10);
      LOAD_SCALAR(f0, x + 8);
      LOAD_FLOATS(v10, p);
      STEP(p, 64);
      MULTIPLY_ADD(v2, f3, v12);
      LOAD_SCALAR(f1, x + 9);
      LOAD_FLOATS(v12, p);
      STEP(p, 64);
      MULTIPLY_ADD(v0, f4, v14);
      LOAD_SCALAR(f2, x + 10);
      LOAD_FLOATS(v14, p);
      STEP(p, 64);
      MULTIPLY_ADD(v2, f5, v16);
      LOAD_SCALAR(f3, x + 11);
      LOAD_FLOATS(v16, p);
      STEP(p, 64);
      MULTIPLY_ADD(v0, f6, v18);
      LOAD_SCALAR(f4, x + 12);
      LOAD_FLOATS(v18, p);
      STEP(p, 64);
      MULTIPLY_ADD(v2, f7, v20);
      LOAD_SCALAR(f5, x + 13);
      LOAD_FLOATS(v20, p);
      STEP(p, 64);
      MULTIPLY_ADD(v0, f0, v6);
      LOAD_SCALAR(f6, x + 14);
      LOAD_FLOATS(v6, p);
      STEP(p, 64);
      MULTIPLY_ADD(v2, f1, v8);
      LOAD_SCALAR(f7, x + 15);
      LOAD_FLOATS(v8, p);
      STEP(p, 64);
      x += 8;
    }
    MULTIPLY_ADD(v0, f2, v10);
    LOAD_SCALAR(f0, x + 8);
    LOAD_FLOATS(v10, p);
    STEP(p, 64);
    MULTIPLY_ADD(v2, f3, v12);
    LOAD_SCALAR(f1, x + 9);
    LOAD_FLOATS(v12, p);
    STEP(p, 64);
    MULTIPLY_ADD(v0, f4, v14);
    LOAD_SCALAR(f2, x + 10);
    LOAD_FLOATS(v14, p);
    STEP(p, 64);
    MULTIPLY_ADD(v2, f5, v16);
    LOAD_SCALAR(f3, x + 11);
    LOAD_FLOATS(v16, p);
    STEP(p, 64);
    MULTIPLY_ADD(v0, f6, v18);
    LOAD_SCALAR(f4, x + 12);
    LOAD_FLOATS(v18, p);
    STEP(p, 64);
    MULTIPLY_ADD(v2, f7, v20);
    LOAD_SCALAR(f5, x + 13);
    LOAD_FLOATS(v20, p);
    STEP(p, 64);
    MULTIPLY_ADD(v0, f0, v6);
    LOAD_SCALAR(f6, x + 14);
    p = next;
    LOAD_FLOATS(v6, p);
    STEP(p, 64);
    MULTIPLY_ADD(v2, f1, v8);
    LOAD_SCALAR(f7, x + 15);
    LOAD_FLOATS(v8, p);
    STEP(p, 64);
    MULTIPLY_ADD(v0, f2, v10);
    LOAD_FLOATS(v10, p);
    STEP(p, 64);
    MULTIPLY_ADD(v2, f3, v12);
    LOAD_FLOATS(v12, p);
    STEP(p, 64);
    MULTIPLY_ADD(v0, f4, v14);
    LOAD_FLOATS(v14, p);
    STEP(p, 64);
    MULTIPLY_ADD(v2, f5, v16);
    LOAD_FLOATS(v16, p);
    STEP(p, 64);
    LOAD_FLOATS(v4, bias);
    MULTIPLY_ADD(v0, f6, v18);
    LOAD_FLOATS(v18, p);
    STEP(p, 64);
    MULTIPLY_ADD(v2, f7, v20);
    LOAD_FLOATS(v20, p);
    STEP(p, 64);
    ADD(v4, v0);
    ADD(v4, v2);
    AT_LEAST(v4, 0x00000000);
    TAKE_OFF_NAN(v4);
    AT_MOST(v4, 0x40c00000);
    PUT_ON_NAN(v4);
    STORE_FLOATS(v4, out);
    if (!left) break;
    panel = next;
    out += 16;
    bias += 16;
  }
}

/* Panels of 8 rows, 40 vectors of codes each. */
static void stream_1b(const float *x0, const unsigned char *panel, float *out, const float *bias, size_t count)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  const float *x = x0;
  const unsigned char *p = panel;
  (void)x;
  SET_WIDE(8, m1);
  LOAD_FLOATS(v3, p);
  STEP(p, 32);
  LOAD_FLOATS(v4, p);
  STEP(p, 32);
  LOAD_FLOATS(v5, p);
  STEP(p, 32);
  LOAD_FLOATS(v6, p);
  STEP(p, 32);
  LOAD_FLOATS(v7, p);
  STEP(p, 32);
  LOAD_FLOATS(v8, p);
  STEP(p, 32);
  LOAD_FLOATS(v9, p);
  STEP(p, 32);
  LOAD_FLOATS(v10, p);
  STEP(p, 32);
  for (size_t left = count - 1;; left--) {
    const unsigned char *next = left ? panel + 1280 : panel;
    x = x0;
    LOAD_SCALAR(f0, x);
    LOAD_SCALAR(f1, x + 1);
    LOAD_SCALAR(f2, x + 2);
    LOAD_SCALAR(f3, x + 3);
    LOAD_SCALAR(f4, x + 4);
    LOAD_SCALAR(f5, x + 5);
    MULTIPLY(v0, f0, v3);
    LOAD_SCALAR(f6, x + 6);
    LOAD_FLOATS(v3, p);
    STEP(p, 32);
    MULTIPLY(v1, f1, v4);
    LOAD_SCALAR(f7, x + 7);
    LOAD_FLOATS(v4, p);
    STEP(p, 32);
    for (size_t turn = 0; turn < 3; turn++) {
      MULTIPLY_ADD(v0, f2, v5);
      LOAD_SCALAR(f0, x + 8);
      LOAD_FLOATS(v5, p);
      STEP(p, 32);
      MULTIPLY_ADD(v1, f3, v6);
      LOAD_SCALAR(f1, x + 9);
      LOAD_FLOATS(v6, p);
      STEP(p, 32);
      MULTIPLY_ADD(v0, f4, v7);
      LOAD_SCALAR(f2, x + 10);
      LOAD_FLOATS(v7, p);
      STEP(p, 32);
      MULTIPLY_ADD(v1, f5, v8);
      LOAD_SCALAR(f3, x + 11);
      LOAD_FLOATS(v8, p);
      STEP(p, 32);
      MULTIPLY_ADD(v0, f6, v9);
      LOAD_SCALAR(f4, x + 12);
      LOAD_FLOATS(v9, p);
      STEP(p, 32);
      MULTIPLY_ADD(v1, f7, v10);
      LOAD_SCALAR(f5, x + 13);
      LOAD_FLOATS(v10, p);
      STEP(p, 32);
      MULTIPLY_ADD(v0, f0, v3);
      LOAD_SCALAR(f6, x + 14);
      LOAD_FLOATS(v3, p);
      STEP(p, 32);
      MULTIPLY_ADD(v1, f1, v4);
      LOAD_SCALAR(f7, x + 15);
      LOAD_FLOATS(v4, p);
      STEP(p, 32);
      x += 8;
    }
    MULTIPLY_ADD(v0, f2, v5);
    LOAD_SCALAR(f0, x + 8);
    LOAD_FLOATS(v5, p);
    STEP(p, 32);
    MULTIPLY_ADD(v1, f3, v6);
    LOAD_SCALAR(f1, x + 9);
    LOAD_FLOATS(v6, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f4, v7);
    LOAD_SCALAR(f2, x + 10);
    LOAD_FLOATS(v7, p);
    STEP(p, 32);
    MULTIPLY_ADD(v1, f5, v8);
    LOAD_SCALAR(f3, x + 11);
    LOAD_FLOATS(v8, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f6, v9);
    LOAD_SCALAR(f4, x + 12);
    LOAD_FLOATS(v9, p);
    STEP(p, 32);
    MULTIPLY_ADD(v1, f7, v10);
    LOAD_SCALAR(f5, x + 13);
    LOAD_FLOATS(v10, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f0, v3);
    LOAD_SCALAR(f6, x + 14);
    p = next;
    LOAD_FLOATS(v3, p);
    STEP(p, 32);
    MULTIPLY_ADD(v1, f1, v4);
    LOAD_SCALAR(f7, x + 15);
    LOAD_FLOATS(v4, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f2, v5);
    LOAD_FLOATS(v5, p);
    STEP(p, 32);
    MULTIPLY_ADD(v1, f3, v6);
    LOAD_FLOATS(v6, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f4, v7);
    LOAD_FLOATS(v7, p);
    STEP(p, 32);
    MULTIPLY_ADD(v1, f5, v8);
    LOAD_FLOATS(v8, p);
    STEP(p, 32);
    LOAD_FLOATS(v2, bias);
    MULTIPLY_ADD(v0, f6, v9);
    LOAD_FLOATS(v9, p);
    STEP(p, 32);
    MULTIPLY_ADD(v1, f7, v10);
    LOAD_FLOATS(v10, p);
    STEP(p, 32);
    ADD(v2, v0);
    ADD(v2, v1);
    AT_LEAST(v2, 0x00000000);
    TAKE_OFF_NAN(v2);
    AT_MOST(v2, 0x40c00000);
    PUT_ON_NAN(v2);
    STORE_FLOATS(v2, out);
    if (!left) break;
    panel = next;
    out += 8;
    bias += 8;
  }
}

/* Stage 1: S' [24] = A [24, 40] S, fp32. */
static void stage_1(const float *s, const float *w, float *out, const float *bias)
{
  stream_1a(s, (const unsigned char *)w, out, bias, 1);
  stream_1b(s, (const unsigned char *)w + 2560, out + 16, bias + 16, 1);
}

void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group);
void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group)
{
  (void)x, (void)scratch, (void)y, (void)group;
  stage_1(x, weights, y, weights + 960);
}
