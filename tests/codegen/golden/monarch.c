/* y [1, 24] from x [1, 15], Monarch 4x6 / 3x5, rank 2.
 * order 1,0; stream m1 x2 | stream m1 x2; 8 lanes. */
/* ... */


/* [4, 2] to every 3th run of 2. */
static void move(const float *from, float *to)
{
  for (size_t run = 0; run < 4; run++) {
    SET_VL(2, m1);
    LOAD_VECTOR(v8, from + run * 2);
    STORE_VECTOR(v8, to + run * 6);
  }
}

/* Panels of 8 rows, 5 vectors of codes each. */
static void stream_1a(const float *x0, const unsigned char *panel, float *out, size_t count)
{
  float f0, f1, f2, f3, f4;
  const float *x = x0;
  const unsigned char *p = panel;
  LOAD_SCALAR(f0, x);
  LOAD_SCALAR(f1, x + 1);
  LOAD_SCALAR(f2, x + 2);
  LOAD_SCALAR(f3, x + 3);
  LOAD_SCALAR(f4, x + 4);
  SET_WIDE(8, m1);
  LOAD_FLOATS(v2, p);
  STEP(p, 32);
  for (size_t left = count - 1;; left--) {
    const unsigned char *next = left ? panel + 160 : panel;
    MULTIPLY(v0, f0, v2);
    LOAD_FLOATS(v2, p);
    STEP(p, 32);
    MULTIPLY(v1, f1, v2);
    LOAD_FLOATS(v2, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f2, v2);
    LOAD_FLOATS(v2, p);
    STEP(p, 32);
    MULTIPLY_ADD(v1, f3, v2);
    LOAD_FLOATS(v2, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f4, v2);
    p = next;
    LOAD_FLOATS(v2, p);
    STEP(p, 32);
    ADD(v0, v1);
    STORE_FLOATS(v0, out);
    if (!left) break;
    panel = next;
    out += 8;
  }
}

/* Stage 1: S' [8] = A [8, 5] S, fp32. */
static void stage_1(const float *s, const float *w, float *out)
{
  stream_1a(s, (const unsigned char *)w, out, 1);
}

/* Panels of 6 rows, 6 vectors of codes each. */
static void stream_2a(const float *x0, const unsigned char *panel, float *out, const float *bias, size_t count)
{
  float f0, f1, f2, f3, f4, f5;
  const float *x = x0;
  const unsigned char *p = panel;
  LOAD_SCALAR(f0, x);
  LOAD_SCALAR(f1, x + 1);
  LOAD_SCALAR(f2, x + 2);
  LOAD_SCALAR(f3, x + 3);
  LOAD_SCALAR(f4, x + 4);
  LOAD_SCALAR(f5, x + 5);
  SET_WIDE(6, m1);
  LOAD_FLOATS(v3, p);
  STEP(p, 32);
  LOAD_FLOATS(v4, p);
  STEP(p, 32);
  for (size_t left = count - 1;; left--) {
    const unsigned char *next = left ? panel + 192 : panel;
    MULTIPLY(v0, f0, v3);
    LOAD_FLOATS(v3, p);
    STEP(p, 32);
    MULTIPLY(v1, f1, v4);
    LOAD_FLOATS(v4, p);
    STEP(p, 32);
    MULTIPLY_ADD(v0, f2, v3);
    LOAD_FLOATS(v3, p);
    STEP(p, 32);
    MULTIPLY_ADD(v1, f3, v4);
    LOAD_FLOATS(v4, p);
    STEP(p, 32);
    LOAD_FLOATS(v2, bias);
    MULTIPLY_ADD(v0, f4, v3);
    p = next;
    LOAD_FLOATS(v3, p);
    STEP(p, 32);
    MULTIPLY_ADD(v1, f5, v4);
    LOAD_FLOATS(v4, p);
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

/* Stage 2: S' [6] = A [6, 6] S, fp32. */
static void stage_2(const float *s, const float *w, float *out, const float *bias)
{
  stream_2a(s, (const unsigned char *)w, out, bias, 1);
}

void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group);
void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group)
{
  (void)x, (void)scratch, (void)y, (void)group;
  for (size_t block = 0; block < 3; block++) {
    stage_1(x + block * 5, weights + block * 40, scratch + 32);
    move(scratch + 32, scratch + block * 2);
  }
  for (size_t block = 0; block < 4; block++) {
    stage_2(scratch + block * 6, weights + 128 + block * 48, y + block * 6, weights + 320 + block * 6);
  }
}
