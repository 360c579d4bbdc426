/* y [1, 40] from x [1, 64], 40x1 / 1x64, ranks 8.
 * order 1,0; stream m1 x4 | stream m4 x2; 8 lanes. */
/* ... */


/* Panels of 8 rows, 64 vectors of codes each. */
static void stream_1a(const float *x0, const unsigned char *panel, float *out, size_t count)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  const float *x = x0;
  const unsigned char *p = panel;
  (void)x;
  SET_WIDE(8, m1);
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
  LOAD_FLOATS(v11, p);
  STEP(p, 32);
  for (size_t left = count - 1;; left--) {
    const unsigned char *next = left ? panel + 2048 : panel;
    x = x0;
    LOAD_SCALAR(f0, x);
    LOAD_SCALAR(f1, x + 1);
    LOAD_SCALAR(f2, x + 2);
    LOAD_SCALAR(f3, x + 3);
    LOAD_SCALAR(f4, x + 4);
    LOAD_SCALAR(f5, x + 5);
    MULTIPLY(v0, f0, v4);
    LOAD_SCALAR(f6, x + 6);
    LOAD_FLOATS(v4, p);
    STEP(p, 32);
    MULTIPLY(v1, f1, v5);
    LOAD_SCALAR(f7, x + 7);
    LOAD_FLOATS(v5, p);
    STEP(p, 32);
    MULTIPLY(v2, f2, v6);
    LOAD_SCALAR(f0, x + 8);
    LOAD_FLOATS(v6, p);
    STEP(p, 32);
    MULTIPLY(v3, f3, v7);
    LOAD_SCALAR(f1, x + 9);
    LOAD_FLOATS(v7, p);
    STEP(p, 32);
    for (size_t turn = 0; turn < 6; turn++) {
      MULTIPLY_ADD(v0, f4, v8);
      LOAD_SCALAR(f2, x + 10);
      LOAD_FLOATS(v8, p);
      STEP(p, 32);
      MULTIPLY_ADD(v1, f5, v9);
      LOAD_SCALAR(f3, x + 11);
      LOAD_FLOATS(v9, p);
      STEP(p, 32);
      MULTIPLY_ADD(v2, f6, v10);
      LOAD_SCALAR(f4, x + 12);
      LOAD_FLOATS(v10, p);
      STEP(p, 32);
      MULTIPLY_ADD(v3, f7, v11);
      LOAD_SCALAR(f5, x + 13);
      LOAD_FLOATS(v11, p);
      STEP(p, 32);
      MULTIPLY_ADD(v0, f0, v4);
      LOAD_SCALAR(f6, x + 14);
      LOAD_FLOATS(v4, p);
      STEP(p, 32);
      MULTIPLY_ADD(v1, f1, v5);
      LOAD_SCALAR(f7, x + 15);
      LOAD_FLOATS(v5, p);
      STEP(p, 32);
      MULTIPLY_ADD(v2, f2, v6);
      LOAD_SCALAR(f0, x + 16);
      LOAD_FLOATS(v6, p);
      STEP(p, 32);
      MULTIPLY_ADD(v3, f3, v7);
      LOAD_SCALAR(f1, x + 17);
      LOAD_FLOATS(v7, p);
      STEP(p, 32);
      x += 8;
    }
    MULTIPLY_ADD(v0, f4, v8);
    LOAD_SCALAR(f2, x + 10);
    LOAD_FLOATS(v8, p);
    STEP(p, 32);
    MULTIPLY_ADD(v1, f5, v9);
    LOAD_SCALAR(f3, x + 11);
    LOAD_FLOATS(v9, p);
    STEP(p, 32);
    MULTIPLY_ADD(v2, f6, v10);
    LOAD_SCALAR(f4, x + 12);
    LOAD_FLOATS(v10, p);
    STEP(p, 32);
    MULTIPLY_ADD(v3, f7, v11);
    LOAD_SCALAR(f5, x + 13);
    LOAD_FLOATS(v11, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f0, v4);
    LOAD_SCALAR(f6, x + 14);
    p = next;
    LOAD_FLOATS(v4, p);
    STEP(p, 32);
    MULTIPLY_ADD(v1, f1, v5);
    LOAD_SCALAR(f7, x + 15);
    LOAD_FLOATS(v5, p);
    STEP(p, 32);
    MULTIPLY_ADD(v2, f2, v6);
    LOAD_FLOATS(v6, p);
    STEP(p, 32);
    MULTIPLY_ADD(v3, f3, v7);
    LOAD_FLOATS(v7, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f4, v8);
    LOAD_FLOATS(v8, p);
    STEP(p, 32);
    MULTIPLY_ADD(v1, f5, v9);
    LOAD_FLOATS(v9, p);
    STEP(p, 32);
    MULTIPLY_ADD(v2, f6, v10);
    LOAD_FLOATS(v10, p);
    STEP(p, 32);
    MULTIPLY_ADD(v3, f7, v11);
    LOAD_FLOATS(v11, p);
    STEP(p, 32);
    ADD(v0, v1);
    ADD(v0, v2);
    ADD(v0, v3);
    STORE_FLOATS(v0, out);
    if (!left) break;
    panel = next;
    out += 8;
  }
}

/* Stage 1: S' [8] = A [8, 64] S, fp32. */
static void stage_1(const float *s, const float *w, float *out)
{
  stream_1a(s, (const unsigned char *)w, out, 1);
}

/* Panels of 32 rows, 8 vectors of codes each. */
static void stream_2a(const float *x0, const unsigned char *panel, float *out, const float *bias, size_t count)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  const float *x = x0;
  const unsigned char *p = panel;
  LOAD_SCALAR(f0, x);
  LOAD_SCALAR(f1, x + 1);
  LOAD_SCALAR(f2, x + 2);
  LOAD_SCALAR(f3, x + 3);
  LOAD_SCALAR(f4, x + 4);
  LOAD_SCALAR(f5, x + 5);
  LOAD_SCALAR(f6, x + 6);
  LOAD_SCALAR(f7, x + 7);
  SET_WIDE(32, m4);
  LOAD_FLOATS(v12, p);
  STEP(p, 128);
  LOAD_FLOATS(v16, p);
  STEP(p, 128);
  LOAD_FLOATS(v20, p);
  STEP(p, 128);
  LOAD_FLOATS(v24, p);
  STEP(p, 128);
  for (size_t left = count - 1;; left--) {
    const unsigned char *next = left ? panel + 1024 : panel;
    MULTIPLY(v0, f0, v12);
    LOAD_FLOATS(v12, p);
    STEP(p, 128);
    MULTIPLY(v4, f1, v16);
    LOAD_FLOATS(v16, p);
    STEP(p, 128);
    MULTIPLY_ADD(v0, f2, v20);
    LOAD_FLOATS(v20, p);
    STEP(p, 128);
    MULTIPLY_ADD(v4, f3, v24);
    LOAD_FLOATS(v24, p);
    STEP(p, 128);
    MULTIPLY_ADD(v0, f4, v12);
    p = next;
    LOAD_FLOATS(v12, p);
    STEP(p, 128);
    MULTIPLY_ADD(v4, f5, v16);
    LOAD_FLOATS(v16, p);
    STEP(p, 128);
    LOAD_FLOATS(v8, bias);
    MULTIPLY_ADD(v0, f6, v20);
    LOAD_FLOATS(v20, p);
    STEP(p, 128);
    MULTIPLY_ADD(v4, f7, v24);
    LOAD_FLOATS(v24, p);
    STEP(p, 128);
    ADD(v8, v0);
    ADD(v8, v4);
    STORE_FLOATS(v8, out);
    if (!left) break;
    panel = next;
    out += 32;
    bias += 32;
  }
}

/* Panels of 8 rows, 8 vectors of codes each. */
static void stream_2b(const float *x0, const unsigned char *panel, float *out, const float *bias, size_t count)
{
  float f0, f1, f2, f3, f4, f5, f6, f7;
  const float *x = x0;
  const unsigned char *p = panel;
  LOAD_SCALAR(f0, x);
  LOAD_SCALAR(f1, x + 1);
  LOAD_SCALAR(f2, x + 2);
  LOAD_SCALAR(f3, x + 3);
  LOAD_SCALAR(f4, x + 4);
  LOAD_SCALAR(f5, x + 5);
  LOAD_SCALAR(f6, x + 6);
  LOAD_SCALAR(f7, x + 7);
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
    const unsigned char *next = left ? panel + 256 : panel;
    MULTIPLY(v0, f0, v3);
    p = next;
    LOAD_FLOATS(v3, p);
    STEP(p, 32);
    MULTIPLY(v1, f1, v4);
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
    STORE_FLOATS(v2, out);
    if (!left) break;
    panel = next;
    out += 8;
    bias += 8;
  }
}

/* Stage 2: S' [40] = A [40, 8] S, fp32. */
static void stage_2(const float *s, const float *w, float *out, const float *bias)
{
  stream_2a(s, (const unsigned char *)w, out, bias, 1);
  stream_2b(s, (const unsigned char *)w + 1024, out + 32, bias + 32, 1);
}

void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group);
void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group)
{
  (void)x, (void)scratch, (void)y, (void)group;
  stage_1(x, weights, scratch);
  stage_2(scratch, weights + 512, y, weights + 832);
}
