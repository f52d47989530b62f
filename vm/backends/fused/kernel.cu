// The element-wise part of a program, read as data: one warp takes tile after tile of one segment through all of the
// instructions and keeps the totals. The constants, names and expressions in capitals come from `table.py`, before this.
// Element k of a tile belongs to lane k % LANES in every instruction, so lanes wait for each other in totals alone.

#ifdef __CUDACC__
#define DEVICE static __device__ __forceinline__
#define METHOD __device__ __forceinline__
#define KERNEL extern "C" __global__ void
#define BLOCK int(blockIdx.x)
#define LANE int(threadIdx.x)
#define STRIDE LANES
#define SHARED(name) extern __shared__ double name[]
#define SYNC() __syncwarp()
#define UNROLLED _Pragma("unroll")
#define INFINITE __longlong_as_double(0x7ff0000000000000ll)
#define NOTHING __longlong_as_double(0x7ff8000000000000ll)
#else  // one block at a time, one lane after the other
#include <cmath>
#define DEVICE static inline
#define METHOD inline
#define KERNEL extern "C" void
static thread_local int BLOCK;
static thread_local double shared_memory[SHARED_BYTES / sizeof(double)];
extern "C" void set_block(int block) { BLOCK = block; }
#define LANE 0
#define STRIDE 1
#define SHARED(name) double* const name = shared_memory
#define SYNC()
#define UNROLLED
#define INFINITE HUGE_VAL
#define NOTHING double(NAN)
#endif
#define EACH(k) UNROLLED for (int k = LANE; k < TILE; k += STRIDE)
#define MINE(i, group, count) \
  for (int i = (group) * LANES + LANE; i < (count) && i < ((group) + 1) * LANES; i += STRIDE)

struct alignas(16) Instruction { int op, d, a, b; };
struct Pointers { double* at[POINTERS]; };
struct Entry { int finish, a, b, c, row; };
struct Total { double x, y; };  // of MOMENTS the mean and the squared deviations from it

// What leaves float32's range; there is no -0.
DEVICE double in_range(double x) {
  const double size = fabs(x);
  return size > LARGEST ? (x > 0.0 ? INFINITE : -INFINITE) : size < SMALLEST ? 0.0 : x;
}

struct Add { METHOD double operator()(double a, double b) const { return a + b; } };
struct Least { METHOD double operator()(double a, double b) const { return b < a || b != b ? b : a; } };
struct Most { METHOD double operator()(double a, double b) const { return b > a || b != b ? b : a; } };

// One number from the first `width` elements of a tile: each lane's in turn, then lanes by halves of the warp.
template <class Value, class Join> DEVICE double across(int width, double start, Join join, Value value) {
#ifdef __CUDACC__
  double found = start;
  EACH(k) if (k < width) found = join(found, value(k));
  for (int apart = LANES / 2; apart > 0; apart /= 2)
    found = join(found, __shfl_xor_sync(0xffffffffu, found, apart));
  return found;
#else
  double found[LANES];
  for (int lane = 0; lane < LANES; ++lane) found[lane] = start;
  for (int k = 0; k < width; ++k) found[k % LANES] = join(found[k % LANES], value(k));
  for (int apart = LANES / 2; apart > 0; apart /= 2)
    for (int lane = 0; lane < apart; ++lane) found[lane] = join(found[lane], found[lane + apart]);
  return found[0];
#endif
}

// Two parts of one total; `seen` and `n` elements are in them.
DEVICE Total joined(int kind, Total a, double seen, Total b, double n) {
  if (kind == MIN) return {Least()(a.x, b.x), 0.0};
  if (kind == MAX) return {Most()(a.x, b.x), 0.0};
  if (kind != MOMENTS) return {a.x + b.x, 0.0};
  const double apart = b.x - a.x;
  return {a.x + apart * (n / (seen + n)), a.y + b.y + apart * apart * (seen * n / (seen + n))};
}

// The largest element of a column, and the sum of exp(x - largest); -inf adds nothing, +inf and NaN make the sum NaN.
DEVICE Total column_joined(Total a, Total b) {
  if (b.x == -INFINITE) return {a.x, a.y + b.y};
  if (b.x > a.x) return {b.x, a.y * exp(a.x - b.x) + b.y};
  return {a.x, a.y + b.y * exp(b.x - a.x)};
}

DEVICE Total column_of(double x) {
  return x != x ? Total{-INFINITE, x} : Total{x, x == -INFINITE ? 0.0 : x - x + 1.0};
}

// in: statistics, whole Matrices [layer, row, column], and columns [layer, column, 2]. out: Matrices to keep.
// totals: [block, slots]. columns: [block, tables, 2, TILE]. A block takes CHUNK elements of a layer, or, by columns,
// TILE columns of STRIP rows.
KERNEL sweep(Pointers in, Pointers out, const Instruction* code, int length, const double* table, double* totals,
             double* columns, int registers, int slots, int tables, int layers, int rows, int cols, int by_columns) {
  SHARED(memory);
  double* const total = memory + registers * TILE;
  double* const state = total + slots;
  const int n = rows * cols;
  int layer, first, step, tiles, wide = TILE;
  if (by_columns) {
    const int blocks = (cols + TILE - 1) / TILE, strips = (rows + STRIP - 1) / STRIP;
    const int block = BLOCK % blocks, strip = BLOCK / blocks % strips;
    layer = BLOCK / blocks / strips;
    first = strip * STRIP * cols + block * TILE;
    step = cols;
    tiles = rows - strip * STRIP < STRIP ? rows - strip * STRIP : STRIP;
    if (cols - block * TILE < TILE) wide = cols - block * TILE;
  } else {
    const int chunks = (n + CHUNK - 1) / CHUNK;
    layer = BLOCK / chunks;
    first = BLOCK % chunks * CHUNK;
    step = TILE;
    tiles = ((n - first < CHUNK ? n - first : CHUNK) + TILE - 1) / TILE;
  }
  const long long start = (long long)layer * n;
  for (int t = 0; t < tiles; ++t) {
    const int base = first + t * step;
    const int width = n - base < wide ? n - base : wide;
    for (int i = 0; i < length; ++i) {
      const Instruction c = code[i];
      const bool scalar_a = c.op & SCALAR_A, scalar_b = c.op & SCALAR_B;
      const double* const a = memory + (scalar_a ? 0 : c.a) * TILE;
      const double* const b = memory + (scalar_b ? 0 : c.b) * TILE;
      double* const d = memory + c.d * TILE;
      const double scalar =
          scalar_a || scalar_b ? table[(long long)(scalar_a ? c.a : c.b) * layers + layer] : 0.0;
      Total found = {0.0, 0.0};
      switch (c.op & (SCALAR_A - 1)) {
#define CASE(name, value)                                                     \
  case name:                                                                  \
    EACH(k) {                                                                 \
      const double x = scalar_a ? scalar : a[k], y = scalar_b ? scalar : b[k]; \
      (void)y;                                                                \
      d[k] = value;                                                           \
    }                                                                         \
    continue;
        ELEMENTS(CASE)
#undef CASE
        case LOAD:
          EACH(k) d[k] = k < width ? in.at[c.a][start + base + k] : 0.0;
          continue;
        case STORE:
          EACH(k) if (k < width) out.at[c.b][start + base + k] = a[k];
          continue;
        case SCALE: {
          const double centre = table[(long long)c.b * layers + layer];
          const double spread = table[(long long)(c.b + 1) * layers + layer];
          EACH(k) d[k] = in_range((a[k] - centre) / spread);
          continue;
        }
        case SOFTMAX:
        case LOG_SOFTMAX:
          EACH(k) {
            const double* const of = in.at[c.b] + ((long long)layer * cols + unsigned(base + k) % unsigned(cols)) * 2;
            const double apart = a[k] - of[0];
            d[k] = in_range((c.op == SOFTMAX) ? exp(apart) / of[1] : apart - log(of[1]));
          }
          continue;
        case COLUMN:
          EACH(k) if (k < width) {
            double* const at = state + c.d * 2 * TILE + k;
            const Total own = column_of(a[k]), all = t ? column_joined({at[0], at[TILE]}, own) : own;
            at[0] = all.x;
            at[TILE] = all.y;
          }
          continue;
        case SUM: found.x = across(width, 0.0, Add(), [&](int k) { return a[k]; }); break;
        case ABSOLUTES: found.x = across(width, 0.0, Add(), [&](int k) { return fabs(a[k]); }); break;
        case SQUARES: found.x = across(width, 0.0, Add(), [&](int k) { return a[k] * a[k]; }); break;
        case PRODUCTS: found.x = across(width, 0.0, Add(), [&](int k) { return a[k] * b[k]; }); break;
        case MIN: found.x = across(width, INFINITE, Least(), [&](int k) { return a[k]; }); break;
        case MAX: found.x = across(width, -INFINITE, Most(), [&](int k) { return a[k]; }); break;
        case MOMENTS: {
          const double first = a[0];  // from which equal numbers are exactly 0 apart
          const double mean = first + across(width, 0.0, Add(), [&](int k) { return a[k] - first; }) / width;
          found.y = across(width, 0.0, Add(), [&](int k) { return (a[k] - mean) * (a[k] - mean); });
          found.x = mean;
        }
      }
      if (LANE == 0) {
        const bool two = c.op == MOMENTS;
        double* const at = total + c.d;
        if (t) found = joined(c.op, {at[0], two ? at[1] : 0.0}, double(t) * TILE, found, width);
        at[0] = found.x;
        if (two) at[1] = found.y;
      }
    }
  }
  SYNC();
  for (int s = LANE; s < slots; s += STRIDE) totals[(long long)BLOCK * slots + s] = total[s];
  for (int j = 0; j < 2 * tables; ++j) EACH(k) columns[((long long)BLOCK * tables * 2 + j) * TILE + k] = state[j * TILE + k];
}

DEVICE Total folded(const int* kinds, const double* totals, int slot, int slots, int layer, int n) {
  const int chunks = (n + CHUNK - 1) / CHUNK;
  Total all = {0.0, 0.0};
  for (int i = 0; slot >= 0 && i < chunks; ++i) {
    const double* const at = totals + ((long long)layer * chunks + i) * slots + slot;
    const Total part = {at[0], kinds[slot] == MOMENTS ? at[1] : 0.0};
    const double seen = double(i) * CHUNK;
    all = i ? joined(kinds[slot], all, seen, part, n - seen < CHUNK ? n - seen : CHUNK) : part;
  }
  return all;
}

// What follows from the totals of each layer, in the order of the chunks.
KERNEL finish(const Entry* entries, int count, const int* kinds, const double* totals, double* table, int slots,
              int layers, int elements) {
  MINE(i, BLOCK, count * layers) {
    const Entry e = entries[i / layers];
    const int layer = i % layers;
    const Total a = folded(kinds, totals, e.a, slots, layer, elements);
    const Total b = folded(kinds, totals, e.b, slots, layer, elements);
    const Total c = folded(kinds, totals, e.c, slots, layer, elements);
    const double n = elements;
    double value = 0.0;
    switch (e.finish) {
#define CASE(name, expression) \
  case name: value = expression; break;
      FINISHES(CASE)
#undef CASE
    }
    table[(long long)e.row * layers + layer] = value;
  }
}

// found: [tables, layer, column, 2] from the strips of each column, in their order.
KERNEL finish_columns(const double* columns, double* found, int tables, int layers, int rows, int cols) {
  const int blocks = (cols + TILE - 1) / TILE, strips = (rows + STRIP - 1) / STRIP;
  MINE(i, BLOCK, tables * layers * cols) {
    const int column = i % cols, layer = i / cols % layers, j = i / cols / layers;
    Total all = {0.0, 0.0};
    for (int s = 0; s < strips; ++s) {
      const long long block = ((long long)layer * strips + s) * blocks + column / TILE;
      const double* const at = columns + (block * tables + j) * 2 * TILE + column % TILE;
      all = s ? column_joined(all, {at[0], at[TILE]}) : Total{at[0], at[TILE]};
    }
    found[2ll * i] = all.x;
    found[2ll * i + 1] = all.y;
  }
}

// Instructions on Scalars that do not wait for each other: each warp takes one, for some layers.
KERNEL scalars(const Instruction* code, const double* constants, double* table, int layers) {
  const int groups = (layers + LANES - 1) / LANES;
  const Instruction c = code[BLOCK / groups];
  MINE(layer, BLOCK % groups, layers) {
    double* const d = table + (long long)c.d * layers + layer;
    if (c.op == CONSTANT) {
      *d = constants[c.a];
      continue;
    }
    const double x = table[(long long)c.a * layers + layer], y = table[(long long)c.b * layers + layer];
    (void)y;
    switch (c.op) {
#define CASE(name, value) \
  case name: *d = value; break;
      ELEMENTS(CASE)
#undef CASE
    }
  }
}
