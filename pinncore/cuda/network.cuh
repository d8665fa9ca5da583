// Loss and gradient of many networks: a warp takes 32 points at a time, a block belongs to one network.
//
// A thread has one point in the forward and in the adjoint pass, with the channels of a layer in registers. The weights
// of the network lie in shared memory, read once a block. Weight gradients are 4 x 4 tiles of a layer; a lane has a tile
// and walks the points. Widths are whole numbers of four, filled up with zeros, and known when this is compiled; the
// number of layers is not. Sums run in an order that depends on the network and its points only: no atomics.
//
// The tape holds, for every hidden layer, unit and point, the channels after the activation (tanh, whose derivatives
// follow from its value) or before it (others). The reverse pass overwrites it with the cotangents of the channels
// before the activation.
//
// `Equation` is generated: how many inputs, outputs, channels there are, second-order forms, the residuals. The same
// text is compiled for GPUs and, with host.h, for the CPU.

template <typename T> struct alignas(4 * sizeof(T)) Four { T v[4]; };

template <typename T, int N> struct alignas(N % 4 == 0 ? 4 * sizeof(T) : N % 2 == 0 ? 2 * sizeof(T) : sizeof(T)) Channels {
  T c[N];
};

// The numbers of a point in data columns, read where they are needed: registers are scarcer than cached loads.
template <typename R> struct Columns {
  const R *at;
  long stride;
  __device__ __forceinline__ R operator[](int column) const { return at[column * stride]; }
};

template <typename T, typename R> struct LossArguments {
  const T *x;          // parameters [rows, size] in the order of `pinncore.networks.unflatten`
  const int *rows;     // of the networks of this launch, one for each block of the grid's y
  const int *widths;   // theirs, at most H
  const T *inputs;     // [rows, inputs, count]
  const R *columns;    // [rows, columns, count]
  const T *seeds;      // [rows, coordinates]: factors from coordinates to inputs
  const R *parameters; // [rows, parameters]
  const R *weights;    // [rows, residuals], of the cotangents
  double *squares;     // sums of squares [rows, tasks, terms]
  T *gradients;        // sums of w r dr/dp [rows, tasks, size]
  T *outputs;          // channels of the outputs [rows, outputs, channels, count], or null
  T *tape;             // of networks whose tape is not in shared memory
  long size;
  int depth, count, coordinates, tasks, task, terms;
};

template <typename T, int H, typename E> struct Net {
  static constexpr int LAYER = H * H + H, NC = E::CHANNELS;
  // Weights of the first layer [inputs, H] and biases [H]; of hidden layers [to, from] and biases; of the outputs
  // [outputs, H] and biases: rows are whole fours.
  static __host__ __device__ constexpr int hidden(int level) { return (E::INPUTS + 1) * H + (level - 1) * LAYER; }
  static __host__ __device__ constexpr int out(int depth) { return hidden(depth); }
  static __host__ __device__ constexpr int size(int depth) { return out(depth) + (E::OUTPUTS * (H + 1) + 3) / 4 * 4; }

  // Where a weight lies in the network's own vector; -1 for the filling.
  static __device__ __forceinline__ int place(int k, int width, int depth) {
    if (k < E::INPUTS * H) return k % H < width ? k / H * width + k % H : -1;
    k -= E::INPUTS * H;
    if (k < H) return k < width ? E::INPUTS * width + k : -1;
    k -= H;
    int start = (E::INPUTS + 1) * width;
    const int level = k / LAYER;
    if (level < depth - 1) {
      start += level * (width + 1) * width;
      k %= LAYER;
      const int to = k < H * H ? k / H : k - H * H, from = k < H * H ? k % H : width;
      return to < width && from <= width && (k >= H * H || from < width) ? start + from * width + to : -1;
    }
    k -= (depth - 1) * LAYER;
    start += (depth - 1) * (width + 1) * width;
    if (k < E::OUTPUTS * H) return k % H < width ? start + k % H * E::OUTPUTS + k / H : -1;
    k -= E::OUTPUTS * H;
    return k < E::OUTPUTS ? start + width * E::OUTPUTS + k : -1;
  }
};

// Shared memory of a block, in numbers: its weights, and for each warp tape, outputs, inputs and sums.
template <typename T, int H, typename E, typename A, bool DEVICE_TAPE, bool BACK>
__host__ __device__ constexpr int warp_numbers(int depth) {
  return BACK ? ((DEVICE_TAPE ? 2 : depth) + (A::FROM_VALUE ? 0 : 1)) * H * 32 * E::CHANNELS +
                    (E::OUTPUTS * E::CHANNELS * 32 + E::INPUTS * 32 + 3) / 4 * 4 + Net<T, H, E>::size(depth)
              : 0;
}

template <typename T, int H, typename E, typename A> struct Layer {
  using C = Channels<T, E::CHANNELS>;
  static constexpr int NC = E::CHANNELS, NF = E::FIRSTS;

  // Channels after the activation from those before it.
  template <typename D> static __device__ __forceinline__ C activated(const C &z, const D &data) {
    T slopes[3], squares[E::FORMS + 1];
    C a;
    a.c[0] = A::value(z.c[0]);
    A::slopes(z.c[0], a.c[0], slopes);
    E::template squares<T>(z.c + 1, data, squares);
#pragma unroll
    for (int k = 1; k <= NF; k++) a.c[k] = slopes[0] * z.c[k];
#pragma unroll
    for (int f = 0; f < E::FORMS; f++) a.c[1 + NF + f] = slopes[0] * z.c[1 + NF + f] + slopes[1] * squares[f];
    return a;
  }

  // Cotangents before the activation from those after it; `t` is what the tape holds.
  template <typename D> static __device__ __forceinline__ C reversed(const C &t, const C &bar, const D &data) {
    T slopes[3], squares[E::FORMS + 1], twists[E::FORMS + 1], turned[NF + 1];
    A::slopes(t.c[0], t.c[0], slopes);
    E::template squares<T>(t.c + 1, data, squares);
    // With the channels after the activation, s''/s' and (s''' - s''^2/s')/s'^2 take the places of s'' and s'''.
    const T second = A::FROM_VALUE ? A::ratio(t.c[0]) : slopes[1];
    const T third = A::FROM_VALUE ? A::rest(t.c[0]) : slopes[2];
    C z;
    T value = 0, forms = 0;
#pragma unroll
    for (int k = 1; k < NC; k++) value += bar.c[k] * t.c[k];
#pragma unroll
    for (int f = 0; f < E::FORMS; f++) {
      forms += bar.c[1 + NF + f] * squares[f];
      twists[f] = second * bar.c[1 + NF + f];
      z.c[1 + NF + f] = slopes[0] * bar.c[1 + NF + f];
    }
    z.c[0] = slopes[0] * bar.c[0] + (second * value + third * forms);
    E::template turn<T>(t.c + 1, data, twists, turned);
#pragma unroll
    for (int k = 0; k < NF; k++) z.c[1 + k] = E::FORMS ? slopes[0] * bar.c[1 + k] + turned[k] : slopes[0] * bar.c[1 + k];
    return z;
  }

  static __device__ __forceinline__ C first(const T *w, const T *seeds, const T *inputs, int j) {
    C z;
    z.c[0] = w[E::INPUTS * H + j];
#pragma unroll
    for (int i = 0; i < E::INPUTS; i++) z.c[0] += w[i * H + j] * inputs[i];
#pragma unroll
    for (int k = 0; k < NF; k++) z.c[1 + k] = seeds[E::coordinate(k)] * w[E::coordinate(k) * H + j];
#pragma unroll
    for (int f = 0; f < E::FORMS; f++) z.c[1 + NF + f] = 0;
    return z;
  }
};

// The values that lanes have of one tile, summed over the lanes P, 2 P, ... apart: each lane ends with its share, of
// which the first is number `fold`.
template <int M, int P, int N, typename T> __device__ __forceinline__ int fold(T (&e)[16], int lane) {
  if constexpr (M < P) {
    return 0;
  } else if constexpr (N > 1) {
    const bool bit = lane & M;
#pragma unroll
    for (int k = 0; k < N / 2; k++) {
      const T keep = bit ? e[k + N / 2] : e[k], give = bit ? e[k] : e[k + N / 2];
      e[k] = keep + __shfl_xor_sync(~0u, give, M);
    }
    return (bit ? N / 2 : 0) + fold<M / 2, P, N / 2>(e, lane);
  } else {
    e[0] += __shfl_xor_sync(~0u, e[0], M);
    return fold<M / 2, P, 1>(e, lane);
  }
}

__host__ __device__ constexpr int power_of_two(int least) {
  int power = 1;
  while (power < least) power *= 2;
  return power;
}

// Sum over the points of cotangents `zb` times activations `av` of the layer below, added to weights and biases `to`.
template <typename T, int H, typename C, int NC>
__device__ __forceinline__ void weight_gradient(T *to, const C *av, const C *zb, int lane) {
  constexpr int TI = H / 4, TILES = TI * TI, P = TILES < 32 ? power_of_two(TILES) : 32, G = 32 / P, POINTS = 32 / G;
  constexpr int VALUES = G < 16 ? 16 / G : 1, ALIKE = G > 16 ? G / 16 : 1;
#pragma unroll
  for (int start = 0; start < TILES; start += P) {
    const int tile = start + lane % P, group = lane / P;
    const bool is_tile = tile < TILES;
    const int ti = is_tile ? tile % TI : 0, tj = is_tile ? tile / TI : 0;
    T s[16] = {}, biases[4] = {};
#pragma unroll 2
    for (int k = 0; k < POINTS; k++) {
      const int point = group * POINTS + (lane + k) % POINTS; // lanes start at different points: no bank conflicts
      C a[4], b[4];
#pragma unroll
      for (int m = 0; m < 4; m++) {
        a[m] = av[(ti * 4 + m) * 32 + point];
        b[m] = zb[(tj * 4 + m) * 32 + point];
      }
#pragma unroll
      for (int j = 0; j < 4; j++) {
        biases[j] += b[j].c[0];
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
          for (int c = 0; c < NC; c++) s[j * 4 + i] += b[j].c[c] * a[i].c[c];
      }
    }
    const int first = fold<16, P, 16>(s, lane);
#pragma unroll
    for (int m = 16; m >= P; m /= 2)
#pragma unroll
      for (int j = 0; j < 4; j++) biases[j] += __shfl_xor_sync(~0u, biases[j], m);
    if (is_tile && group % ALIKE == 0)
#pragma unroll
      for (int k = 0; k < VALUES; k++) to[(tj * 4 + (first + k) / 4) * H + ti * 4 + (first + k) % 4] += s[k];
    if (is_tile && ti == 0 && group == 0)
#pragma unroll
      for (int j = 0; j < 4; j++) to[H * H + tj * 4 + j] += biases[j];
  }
}

// Lanes of the sums over points of a row of units: H of them, in as many groups as there is room for.
template <int H> struct Row {
  static constexpr int LANES = power_of_two(H), GROUPS = LANES < 32 ? 32 / LANES : 1, POINTS = 32 / GROUPS;
  template <typename T> static __device__ __forceinline__ T sum(T value) {
#pragma unroll
    for (int m = LANES; m < 32; m *= 2) value += __shfl_xor_sync(~0u, value, m);
    return value;
  }
};

template <typename T, typename R, int H, typename E, typename A, int WARPS, bool DEVICE_TAPE, bool BACK>
__device__ __forceinline__ void loss(const LossArguments<T, R> &g, T *shared) {
  using N = Net<T, H, E>;
  using L = Layer<T, H, E, A>;
  using C = Channels<T, E::CHANNELS>;
  constexpr int NC = E::CHANNELS, NF = E::FIRSTS, OUT = E::OUTPUTS * NC;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, depth = g.depth, size = N::size(depth);
  const int row = g.rows[blockIdx.y], width = g.widths[blockIdx.y];
  T *w = shared;
  T *own = w + size + warp * warp_numbers<T, H, E, A, DEVICE_TAPE, BACK>(depth);
  C *tape = (C *)own; // [layer][unit][point]
  C *spare = tape + (DEVICE_TAPE ? 2 : depth) * H * 32;
  T *cotangents = (T *)(spare + (A::FROM_VALUE ? 0 : H * 32)); // [output][channel][point]
  T *inputs = cotangents + OUT * 32;                           // [input][point]
  T *sums = cotangents + (OUT * 32 + E::INPUTS * 32 + 3) / 4 * 4;
  C *far = DEVICE_TAPE ? (C *)g.tape + (((long)blockIdx.y * gridDim.x + blockIdx.x) * WARPS + warp) * depth * H * 32 : tape;
  const auto slot = [&](int level) { return tape + (DEVICE_TAPE ? level & 1 : level) * H * 32; };
  for (int k = threadIdx.x; k < size; k += WARPS * 32) {
    const int place = N::place(k, width, depth);
    w[k] = place < 0 ? T(0) : g.x[row * g.size + place];
  }
  if (BACK)
    for (int k = lane; k < size; k += 32) sums[k] = T(0);
  BLOCK_BARRIER(0);
  T seeds[E::INPUTS];
#pragma unroll
  for (int i = 0; i < E::INPUTS; i++) seeds[i] = i < g.coordinates ? g.seeds[row * g.coordinates + i] : T(0);
  double squares[E::RESIDUALS];
#pragma unroll
  for (int k = 0; k < E::RESIDUALS; k++) squares[k] = 0;
  const int tile_points = WARPS * 32, start = blockIdx.x * TILES_PER_BLOCK * tile_points;
  const int stop = min(start + TILES_PER_BLOCK * tile_points, g.count);
  for (int base = start + warp * 32; base < stop; base += tile_points) {
    const bool is_live = base + lane < g.count;
    const int point = is_live ? base + lane : g.count - 1;
    const Columns<R> data{g.columns + (long)row * E::COLUMNS * g.count + point, g.count};
    T in[E::INPUTS];
#pragma unroll
    for (int i = 0; i < E::INPUTS; i++) in[i] = g.inputs[((long)row * E::INPUTS + i) * g.count + point];
    if (BACK)
#pragma unroll
      for (int i = 0; i < E::INPUTS; i++) inputs[i * 32 + lane] = in[i];
    C a[H];
    // ---- forward
#pragma unroll
    for (int j = 0; j < H; j++) {
      const C z = L::first(w, seeds, in, j);
      a[j] = L::activated(z, data);
      if (BACK) {
        const C kept = A::FROM_VALUE ? a[j] : z;
        slot(0)[j * 32 + lane] = kept;
        if (DEVICE_TAPE) far[j * 32 + lane] = kept;
      }
    }
#pragma unroll 1
    for (int level = 1; level < depth; level++) {
      const T *m = w + N::hidden(level);
      C *kept = slot(level);
      C next[H];
#pragma unroll
      for (int j = 0; j < H; j++) {
        C z;
#pragma unroll
        for (int c = 0; c < NC; c++) z.c[c] = c ? T(0) : m[H * H + j];
#pragma unroll
        for (int i = 0; i < H; i += 4) {
          const Four<T> four = *(const Four<T> *)(m + j * H + i);
#pragma unroll
          for (int k = 0; k < 4; k++)
#pragma unroll
            for (int c = 0; c < NC; c++) z.c[c] += four.v[k] * a[i + k].c[c];
        }
        next[j] = L::activated(z, data);
        if (BACK) {
          const C held = A::FROM_VALUE ? next[j] : z;
          kept[j * 32 + lane] = held;
          if (DEVICE_TAPE) far[(level * H + j) * 32 + lane] = held;
        }
      }
#pragma unroll
      for (int j = 0; j < H; j++) a[j] = next[j];
    }
    // ---- outputs and residuals
    const T *wo = w + N::out(depth);
    R out[OUT], bars[OUT];
#pragma unroll
    for (int o = 0; o < E::OUTPUTS; o++)
#pragma unroll
      for (int c = 0; c < NC; c++) {
        T sum = c ? T(0) : wo[E::OUTPUTS * H + o];
#pragma unroll
        for (int i = 0; i < H; i++) sum += wo[o * H + i] * a[i].c[c];
        out[o * NC + c] = R(sum);
      }
    if (!BACK && g.outputs != nullptr && is_live)
#pragma unroll
      for (int k = 0; k < OUT; k++) g.outputs[((long)row * OUT + k) * g.count + point] = T(out[k]);
    E::template residual<R>(out, data, g.parameters + (long)row * E::PARAMETERS, g.weights + (long)row * E::RESIDUALS,
                            is_live, squares, bars);
    if (!BACK) continue;
    if (!A::FROM_VALUE)
#pragma unroll
      for (int j = 0; j < H; j++) spare[j * 32 + lane] = a[j];
#pragma unroll
    for (int k = 0; k < OUT; k++) cotangents[k * 32 + lane] = T(bars[k]);
#pragma unroll
    for (int i = 0; i < H; i++) // a is the cotangent from here on
#pragma unroll
      for (int c = 0; c < NC; c++) {
        T sum = T(0);
#pragma unroll
        for (int o = 0; o < E::OUTPUTS; o++) sum += wo[o * H + i] * T(bars[o * NC + c]);
        a[i].c[c] = sum;
      }
    WARP_BARRIER(1);
    { // gradient of the outputs' weights
      const C *below = A::FROM_VALUE ? slot(depth - 1) : spare;
      const int unit = lane % Row<H>::LANES, group = lane / Row<H>::LANES % Row<H>::GROUPS;
      T *to = sums + N::out(depth);
#pragma unroll
      for (int o = 0; o < E::OUTPUTS; o++) {
        T sum = 0, bias = 0;
#pragma unroll 4
        for (int k = 0; k < Row<H>::POINTS; k++) {
          const int at = group * Row<H>::POINTS + (lane + k) % Row<H>::POINTS;
          const C value = below[(unit < H ? unit : 0) * 32 + at];
#pragma unroll
          for (int c = 0; c < NC; c++) sum += cotangents[(o * NC + c) * 32 + at] * value.c[c];
          bias += cotangents[o * NC * 32 + at];
        }
        sum = Row<H>::sum(sum);
        bias = Row<H>::sum(bias);
        if (group == 0 && unit < H) to[o * H + unit] += sum;
        if (lane == 0) to[E::OUTPUTS * H + o] += bias;
      }
    }
    WARP_BARRIER(2);
    // ---- reverse
#pragma unroll 1
    for (int level = depth - 1; level > 0; level--) {
      const T *m = w + N::hidden(level);
      C *zb = slot(level), *below = slot(level - 1);
      C next[H];
#pragma unroll
      for (int i = 0; i < H; i++) {
#pragma unroll
        for (int c = 0; c < NC; c++) next[i].c[c] = 0;
        if (DEVICE_TAPE) below[i * 32 + lane] = far[((level - 1) * H + i) * 32 + lane];
        if (!A::FROM_VALUE) spare[i * 32 + lane] = L::activated(below[i * 32 + lane], data);
      }
#pragma unroll
      for (int j = 0; j < H; j++) {
        const C z = L::reversed(zb[j * 32 + lane], a[j], data);
        zb[j * 32 + lane] = z;
#pragma unroll
        for (int i = 0; i < H; i += 4) {
          const Four<T> four = *(const Four<T> *)(m + j * H + i);
#pragma unroll
          for (int k = 0; k < 4; k++)
#pragma unroll
            for (int c = 0; c < NC; c++) next[i + k].c[c] += four.v[k] * z.c[c];
        }
      }
#pragma unroll
      for (int i = 0; i < H; i++) a[i] = next[i];
      WARP_BARRIER(3);
      weight_gradient<T, H, C, NC>(sums + N::hidden(level), A::FROM_VALUE ? below : spare, zb, lane);
      WARP_BARRIER(4);
    }
    // ---- first layer
    C *zb = slot(0);
#pragma unroll
    for (int j = 0; j < H; j++) zb[j * 32 + lane] = L::reversed(zb[j * 32 + lane], a[j], data);
    WARP_BARRIER(5);
    {
      const int unit = lane % Row<H>::LANES, group = lane / Row<H>::LANES % Row<H>::GROUPS;
      T rows[E::INPUTS] = {}, slopes[NF + 1] = {}, bias = 0;
#pragma unroll 4
      for (int k = 0; k < Row<H>::POINTS; k++) {
        const int at = group * Row<H>::POINTS + (lane + k) % Row<H>::POINTS;
        const C z = zb[(unit < H ? unit : 0) * 32 + at];
#pragma unroll
        for (int i = 0; i < E::INPUTS; i++) rows[i] += z.c[0] * inputs[i * 32 + at];
#pragma unroll
        for (int f = 0; f < NF; f++) slopes[f] += z.c[1 + f];
        bias += z.c[0];
      }
#pragma unroll
      for (int f = 0; f < NF; f++) rows[E::coordinate(f)] += seeds[E::coordinate(f)] * slopes[f];
#pragma unroll
      for (int i = 0; i < E::INPUTS; i++) rows[i] = Row<H>::sum(rows[i]);
      bias = Row<H>::sum(bias);
      if (group == 0 && unit < H) {
#pragma unroll
        for (int i = 0; i < E::INPUTS; i++) sums[i * H + unit] += rows[i];
        sums[E::INPUTS * H + unit] += bias;
      }
    }
    WARP_BARRIER(6);
  }
  // ---- sums of the block; those of the squares go through the memory of the weights
  const long task = (long)row * g.tasks + g.task + blockIdx.x;
#pragma unroll
  for (int k = 0; k < E::RESIDUALS; k++)
#pragma unroll
    for (int m = 16; m > 0; m /= 2) squares[k] += __shfl_xor_sync(~0u, squares[k], m);
  BLOCK_BARRIER(7);
  double *parts = (double *)shared;
  if (lane == 0)
#pragma unroll
    for (int k = 0; k < E::RESIDUALS; k++) parts[warp * E::RESIDUALS + k] = squares[k];
  BLOCK_BARRIER(8);
  if (threadIdx.x < E::RESIDUALS && g.squares != nullptr) {
    double sum = 0;
    for (int v = 0; v < WARPS; v++) sum += parts[v * E::RESIDUALS + threadIdx.x];
    g.squares[task * g.terms + threadIdx.x] = sum;
  }
  if (!BACK) return;
  for (int k = threadIdx.x; k < size; k += WARPS * 32) {
    const int place = N::place(k, width, depth);
    if (place < 0) continue;
    T sum = 0;
    for (int v = 0; v < WARPS; v++)
      sum += (sums - warp * warp_numbers<T, H, E, A, DEVICE_TAPE, BACK>(depth))[v * warp_numbers<T, H, E, A, DEVICE_TAPE, BACK>(depth) + k];
    g.gradients[task * g.size + place] = sum;
  }
}

// ---- activations: value, derivatives, and whether these follow from the value
template <typename T> struct Tanh {
  static constexpr bool FROM_VALUE = true;
  static __device__ __forceinline__ T value(T z) { return tanh(z); }
  static __device__ __forceinline__ void slopes(T, T a, T (&s)[3]) {
    s[0] = T(1) - a * a;
    s[1] = T(-2) * a * s[0];
    s[2] = T(-2) * (s[0] * s[0] + a * s[1]);
  }
  static __device__ __forceinline__ T ratio(T a) { return T(-2) * a; } // s''/s'
  static __device__ __forceinline__ T rest(T) { return T(-2); }        // (s''' - s''^2/s') / s'^2
};

template <typename T> struct FromArgument {
  static constexpr bool FROM_VALUE = false;
  static __device__ __forceinline__ T ratio(T) { return T(0); }
  static __device__ __forceinline__ T rest(T) { return T(0); }
};

template <typename T> struct Sin : FromArgument<T> {
  static __device__ __forceinline__ T value(T z) { return sin(z); }
  static __device__ __forceinline__ void slopes(T z, T, T (&s)[3]) {
    s[0] = cos(z);
    s[1] = -sin(z);
    s[2] = -s[0];
  }
};

template <typename T> struct Silu : FromArgument<T> {
  static __device__ __forceinline__ T value(T z) { return z / (T(1) + exp(-z)); }
  static __device__ __forceinline__ void slopes(T z, T, T (&s)[3]) {
    const T p = T(1) / (T(1) + exp(-z)), p1 = p * (T(1) - p), q = T(1) - T(2) * p, p2 = p1 * q;
    s[0] = p + z * p1;
    s[1] = T(2) * p1 + z * p2;
    s[2] = T(3) * p2 + z * p1 * (q * q - T(2) * p1);
  }
};

template <typename T> struct Gelu : FromArgument<T> {
  static __device__ __forceinline__ T normal(T z) { return T(0.5) * erfc(z * T(-0.70710678118654752440)); }
  static __device__ __forceinline__ T value(T z) { return z * normal(z); }
  static __device__ __forceinline__ void slopes(T z, T, T (&s)[3]) {
    const T square = z * z, density = T(0.39894228040143267794) * exp(T(-0.5) * square);
    s[0] = normal(z) + z * density;
    s[1] = (T(2) - square) * density;
    s[2] = (square - T(4)) * density * z;
  }
};

// ---- functions of generated residuals
template <typename R> __device__ __forceinline__ R absolute(R a) { return a < R(0) ? -a : a; }
template <typename R> __device__ __forceinline__ R maximum(R a, R b) { return a > b ? a : b; }
template <typename R> __device__ __forceinline__ R minimum(R a, R b) { return a < b ? a : b; }
template <typename R> __device__ __forceinline__ R power(R a, R b) { return pow(a, b); }
template <typename R> __device__ __forceinline__ R where(R truth, R a, R b) { return truth != R(0) ? a : b; }
template <typename R> __device__ __forceinline__ R less(R a, R b) { return a < b ? R(1) : R(0); }
template <typename R> __device__ __forceinline__ R less_equal(R a, R b) { return a <= b ? R(1) : R(0); }
template <typename R> __device__ __forceinline__ R equal(R a, R b) { return a == b ? R(1) : R(0); }
