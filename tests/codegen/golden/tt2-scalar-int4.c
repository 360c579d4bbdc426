/* y [1, 32] from x [1, 32], 8x4 / 4x8, ranks 8.
 * order 1,0; columns m1 x4 | columns m1 x4; 1 lanes. */
/* ... */
#endif

/* What half precision bits stand for: their exponent counts from 2^-112 times as far down. A subnormal one passes
   through a subnormal float, which RISC-V has at full speed and IREE's runtime on other machines flushes to 0. There it
   is made of its count of 2^-24, which takes twice as long. */
static inline __attribute__((unused)) float half_to_float(unsigned short half)
{
#ifdef __riscv
  const unsigned bits = (unsigned)(half & 0x7fff) << 13 | (unsigned)(half & 0x8000) << 16;
  const union { unsigned bits; float value; } moved = {bits}, scale = {0x77800000u};
  return moved.value * scale.value;
#else
  const unsigned magnitude = half & 0x7fff;
  const union { unsigned bits; float value; } moved = {(magnitude << 13) + 0x38000000u};
  const float value = magnitude < 0x400 ? (float)(int)magnitude * 0x1p-24f : moved.value;
  return half & 0x8000 ? -value : value;
#endif
}


/* 4 rows of 8 int4 elements. */
static void widen_1_4(const unsigned char *from, float *to)
{
  for (size_t row = 0; row < 4; row++)
    for (size_t k = 0; k < 4; k++) {
      to[(0 + 1 * k) * 4 + row] = (float)((int)(from[row * 4 + 0 + k] >> 0 & 15) - 8) * half_to_float(((const unsigned short *)(from + 16))[row * 1 + 0]);
    }
  for (size_t row = 0; row < 4; row++)
    for (size_t k = 0; k < 4; k++) {
      to[(4 + 1 * k) * 4 + row] = (float)((int)(from[row * 4 + 0 + k] >> 4 & 15) - 8) * half_to_float(((const unsigned short *)(from + 16))[row * 1 + 0]);
    }
}

/* 4 x 1 sums of 8 terms each. */
static inline void tile_1_4x1(const float *a, size_t a_step, const float *b, float *out)
{
  float sum00 = 0.0f;
  float sum10 = 0.0f;
  float sum20 = 0.0f;
  float sum30 = 0.0f;
  float a0 = a[0];
  float a1 = a[1];
  float a2 = a[2];
  float a3 = a[3];
  float b0 = b[0];
  for (size_t k = 1; k < 8; k++) {
    a += a_step;
    b += 1;
    sum00 += a0 * b0; IN_ORDER(sum00);
    a0 = a[0]; IN_ORDER(a0);
    sum10 += a1 * b0; IN_ORDER(sum10);
    a1 = a[1]; IN_ORDER(a1);
    sum20 += a2 * b0; IN_ORDER(sum20);
    a2 = a[2]; IN_ORDER(a2);
    sum30 += a3 * b0; IN_ORDER(sum30);
    a3 = a[3]; IN_ORDER(a3);
    b0 = b[0]; IN_ORDER(b0);
  }
  sum00 += a0 * b0;
  sum10 += a1 * b0;
  sum20 += a2 * b0;
  sum30 += a3 * b0;
  out[0] = sum00;
  out[1] = sum10;
  out[2] = sum20;
  out[3] = sum30;
}

/* 4 x 4 sums of 8 terms each. */
static inline void tile_1_4x4(const float *a, size_t a_step, const float *b, float *out)
{
  float sum00 = 0.0f;
  float sum01 = 0.0f;
  float sum02 = 0.0f;
  float sum03 = 0.0f;
  float sum10 = 0.0f;
  float sum11 = 0.0f;
  float sum12 = 0.0f;
  float sum13 = 0.0f;
  float sum20 = 0.0f;
  float sum21 = 0.0f;
  float sum22 = 0.0f;
  float sum23 = 0.0f;
  float sum30 = 0.0f;
  float sum31 = 0.0f;
  float sum32 = 0.0f;
  float sum33 = 0.0f;
  float a0 = a[0];
  float a1 = a[1];
  float a2 = a[2];
  float a3 = a[3];
  float b0 = b[0];
  float b1 = b[8];
  float b2 = b[16];
  float b3 = b[24];
  for (size_t k = 1; k < 8; k++) {
    a += a_step;
    b += 1;
    sum00 += a0 * b0; IN_ORDER(sum00);
    sum10 += a1 * b0; IN_ORDER(sum10);
    sum20 += a2 * b0; IN_ORDER(sum20);
    sum30 += a3 * b0; IN_ORDER(sum30);
    b0 = b[0]; IN_ORDER(b0);
    sum01 += a0 * b1; IN_ORDER(sum01);
    sum11 += a1 * b1; IN_ORDER(sum11);
    sum21 += a2 * b1; IN_ORDER(sum21);
    sum31 += a3 * b1; IN_ORDER(sum31);
    b1 = b[8]; IN_ORDER(b1);
    sum02 += a0 * b2; IN_ORDER(sum02);
    sum12 += a1 * b2; IN_ORDER(sum12);
    sum22 += a2 * b2; IN_ORDER(sum22);
    sum32 += a3 * b2; IN_ORDER(sum32);
    b2 = b[16]; IN_ORDER(b2);
    sum03 += a0 * b3; IN_ORDER(sum03);
    a0 = a[0]; IN_ORDER(a0);
    sum13 += a1 * b3; IN_ORDER(sum13);
    a1 = a[1]; IN_ORDER(a1);
    sum23 += a2 * b3; IN_ORDER(sum23);
    a2 = a[2]; IN_ORDER(a2);
    sum33 += a3 * b3; IN_ORDER(sum33);
    a3 = a[3]; IN_ORDER(a3);
    b3 = b[24]; IN_ORDER(b3);
  }
  sum00 += a0 * b0;
  sum01 += a0 * b1;
  sum02 += a0 * b2;
  sum03 += a0 * b3;
  sum10 += a1 * b0;
  sum11 += a1 * b1;
  sum12 += a1 * b2;
  sum13 += a1 * b3;
  sum20 += a2 * b0;
  sum21 += a2 * b1;
  sum22 += a2 * b2;
  sum23 += a2 * b3;
  sum30 += a3 * b0;
  sum31 += a3 * b1;
  sum32 += a3 * b2;
  sum33 += a3 * b3;
  out[0] = sum00;
  out[32] = sum01;
  out[64] = sum02;
  out[96] = sum03;
  out[1] = sum10;
  out[33] = sum11;
  out[65] = sum12;
  out[97] = sum13;
  out[2] = sum20;
  out[34] = sum21;
  out[66] = sum22;
  out[98] = sum23;
  out[3] = sum30;
  out[35] = sum31;
  out[67] = sum32;
  out[99] = sum33;
}

/* Stage 1: S' [4, 32, 1] = A [32, K] S [4, K, 1], K = 8. */
static void stage_1(const float *s, const float *w, float *out, float *work)
{
  for (size_t p = 0; p < 8; p++) {
    widen_1_4((const unsigned char *)w + p * 24, work);
    for (size_t l = 0, some; l < 4; l += some) {
      some = l + 4 <= 4 ? 4 : 1;
      if (some == 4)
        tile_1_4x4(work, 4, s + l * 8, out + l * 32 + p * 4);
      else
        tile_1_4x1(work, 4, s + l * 8, out + l * 32 + p * 4);
    }
  }
}

/* 4 rows of 32 int4 elements. */
static void widen_2_4(const unsigned char *from, float *to)
{
  for (size_t row = 0; row < 4; row++)
    for (size_t k = 0; k < 16; k++) {
      to[(0 + 1 * k) * 4 + row] = (float)((int)(from[row * 16 + 0 + k] >> 0 & 15) - 8) * half_to_float(((const unsigned short *)(from + 64))[row * 1 + 0]);
    }
  for (size_t row = 0; row < 4; row++)
    for (size_t k = 0; k < 16; k++) {
      to[(16 + 1 * k) * 4 + row] = (float)((int)(from[row * 16 + 0 + k] >> 4 & 15) - 8) * half_to_float(((const unsigned short *)(from + 64))[row * 1 + 0]);
    }
}

/* 4 x 4 sums of 32 terms each. */
static inline void tile_2_4x4(const float *a, size_t a_step, const float *b, float *out, const float *bias)
{
  float sum00 = 0.0f;
  float sum01 = 0.0f;
  float sum02 = 0.0f;
  float sum03 = 0.0f;
  float sum10 = 0.0f;
  float sum11 = 0.0f;
  float sum12 = 0.0f;
  float sum13 = 0.0f;
  float sum20 = 0.0f;
  float sum21 = 0.0f;
  float sum22 = 0.0f;
  float sum23 = 0.0f;
  float sum30 = 0.0f;
  float sum31 = 0.0f;
  float sum32 = 0.0f;
  float sum33 = 0.0f;
  float a0 = a[0];
  float a1 = a[1];
  float a2 = a[2];
  float a3 = a[3];
  float b0 = b[0];
  float b1 = b[1];
  float b2 = b[2];
  float b3 = b[3];
  for (size_t k = 1; k < 32; k++) {
    a += a_step;
    b += 4;
    sum00 += a0 * b0; IN_ORDER(sum00);
    sum10 += a1 * b0; IN_ORDER(sum10);
    sum20 += a2 * b0; IN_ORDER(sum20);
    sum30 += a3 * b0; IN_ORDER(sum30);
    b0 = b[0]; IN_ORDER(b0);
    sum01 += a0 * b1; IN_ORDER(sum01);
    sum11 += a1 * b1; IN_ORDER(sum11);
    sum21 += a2 * b1; IN_ORDER(sum21);
    sum31 += a3 * b1; IN_ORDER(sum31);
    b1 = b[1]; IN_ORDER(b1);
    sum02 += a0 * b2; IN_ORDER(sum02);
    sum12 += a1 * b2; IN_ORDER(sum12);
    sum22 += a2 * b2; IN_ORDER(sum22);
    sum32 += a3 * b2; IN_ORDER(sum32);
    b2 = b[2]; IN_ORDER(b2);
    sum03 += a0 * b3; IN_ORDER(sum03);
    a0 = a[0]; IN_ORDER(a0);
    sum13 += a1 * b3; IN_ORDER(sum13);
    a1 = a[1]; IN_ORDER(a1);
    sum23 += a2 * b3; IN_ORDER(sum23);
    a2 = a[2]; IN_ORDER(a2);
    sum33 += a3 * b3; IN_ORDER(sum33);
    a3 = a[3]; IN_ORDER(a3);
    b3 = b[3]; IN_ORDER(b3);
  }
  sum00 += a0 * b0;
  sum01 += a0 * b1;
  sum02 += a0 * b2;
  sum03 += a0 * b3;
  sum10 += a1 * b0;
  sum11 += a1 * b1;
  sum12 += a1 * b2;
  sum13 += a1 * b3;
  sum20 += a2 * b0;
  sum21 += a2 * b1;
  sum22 += a2 * b2;
  sum23 += a2 * b3;
  sum30 += a3 * b0;
  sum31 += a3 * b1;
  sum32 += a3 * b2;
  sum33 += a3 * b3;
  sum00 += bias[0];
  sum01 += bias[1];
  sum02 += bias[2];
  sum03 += bias[3];
  sum10 += bias[4];
  sum11 += bias[5];
  sum12 += bias[6];
  sum13 += bias[7];
  sum20 += bias[8];
  sum21 += bias[9];
  sum22 += bias[10];
  sum23 += bias[11];
  sum30 += bias[12];
  sum31 += bias[13];
  sum32 += bias[14];
  sum33 += bias[15];
  out[0] = sum00;
  out[1] = sum01;
  out[2] = sum02;
  out[3] = sum03;
  out[4] = sum10;
  out[5] = sum11;
  out[6] = sum12;
  out[7] = sum13;
  out[8] = sum20;
  out[9] = sum21;
  out[10] = sum22;
  out[11] = sum23;
  out[12] = sum30;
  out[13] = sum31;
  out[14] = sum32;
  out[15] = sum33;
}

/* Stage 2: S' [1, 8, 4] = A [8, K] S [1, K, 4], K = 32. */
static void stage_2(const float *s, const float *w, float *out, const float *bias, float *work)
{
  for (size_t p = 0; p < 2; p++) {
    widen_2_4((const unsigned char *)w + p * 72, work);
    tile_2_4x4(work, 4, s, out + p * 16, bias + p * 16);
  }
}

void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group);
void kernel(const float *x, const float *weights, float *scratch, float *y, size_t group)
{
  (void)x, (void)scratch, (void)y, (void)group;
  stage_1(x, weights, scratch, scratch + 128);
  stage_2(scratch, weights + 48, y, weights + 96, scratch + 128);
}
