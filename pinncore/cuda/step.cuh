// From the sums of an evaluation to loss, terms, gradient and, in the first stage, the next parameters: a block for each
// network. Compiled without contraction, so that a step rounds as `pinncore.optim.first_order` does.

template <typename T> struct StepArguments {
  const double *squares;   // sums of squares [rows, tasks, widest]
  const T *gradients;      // [rows, tasks, size]
  const int *groups;       // [groups, 4]: first and last task of each, first and last term (one after the last)
  const double *weights;   // [rows, terms]
  const double *averages;  // [rows, terms]: 1/points, or 0 for a norm
  T *loss, *norm;          // [rows]
  T *terms_of;             // [rows, terms]
  T *gradient;             // [rows, size]
  T *x, *m, *v;            // [rows, size]; x null: no step
  const T *coefficients;   // [epochs, rows, 4]: step size, root of the bias, factor of the weights, their share in g
  const T *constants;      // [rows, 3] of the rule
  const int *rules;        // [rows]
  int *epochs, *stopped;   // [rows]: epochs done in this stretch; reason of a stop, 0 for none
  double *first_loss;      // [rows], NaN where there is none yet
  const double *divergence; // [rows]
  long size;
  int rows, tasks, widest, terms, group_count;
};

enum Rule { HEAVY_BALL, SCALED, ADAM, ADAM_INSIDE };
enum Stop { NONE, NOT_FINITE, DIVERGED };

template <typename T> __device__ __forceinline__ T moved(T x, T step, T root) {
  return root == T(0) ? x : x - step / root;
}

template <typename T>
__device__ __forceinline__ void step_of(const StepArguments<T> &g, int rule, const T *c, const T *k, long at, T gradient) {
  T x = g.x[at];
  if (rule == HEAVY_BALL) {
    const T m = g.m[at] * k[0] + gradient;
    g.m[at] = m;
    g.x[at] = x - c[0] * m;
  } else if (rule == SCALED) {
    const T v = g.v[at] * k[0] + gradient * gradient * k[1];
    g.v[at] = v;
    g.x[at] = moved(x, c[0] * gradient, sqrt(v) + k[2]);
  } else {
    if (c[3] != T(0)) gradient = gradient + c[3] * x;
    const T m = g.m[at] + (gradient - g.m[at]) * k[0], v = g.v[at] + (gradient * gradient - g.v[at]) * k[1];
    g.m[at] = m;
    g.v[at] = v;
    const T root = rule == ADAM ? sqrt(v) / c[1] + k[2] : sqrt(v / (c[1] * c[1]) + k[2]);
    g.x[at] = moved(x * c[2], c[0] * m, root);
  }
}

template <typename T> __device__ __forceinline__ void step(const StepArguments<T> &g, double *shared) {
  const int row = blockIdx.x, threads = blockDim.x, me = threadIdx.x;
  double *factors = shared, *results = factors + g.group_count, *parts = results + g.terms;
  for (int group = me; group < g.group_count; group += threads) {
    const int *its = g.groups + group * 4;
    double factor = 2 * g.averages[row * g.terms + its[2]];
    for (int term = its[2]; term < its[3]; term++) {
      double square = 0;
      const double weight = g.weights[row * g.terms + term], average = g.averages[row * g.terms + term];
      for (int task = its[0]; task < its[1]; task++)
        square += g.squares[((long)row * g.tasks + task) * g.widest + term - its[2]];
      results[term] = average == 0 ? sqrt(square) : square * average;
      if (average == 0) // at zero the subgradient 0
        factor = results[term] != 0 ? weight / results[term] : 0;
      else if (its[3] - its[2] == 1)
        factor = 2 * weight * average;
      g.terms_of[row * g.terms + term] = T(results[term]);
    }
    factors[group] = factor;
  }
  BLOCK_BARRIER(20);
  double square = 0;
  for (long p = me; p < g.size; p += threads) {
    double whole = 0;
    for (int group = 0; group < g.group_count; group++) {
      double sum = 0;
      for (int task = g.groups[group * 4]; task < g.groups[group * 4 + 1]; task++)
        sum += double(g.gradients[((long)row * g.tasks + task) * g.size + p]);
      whole += factors[group] * sum;
    }
    const T rounded = T(whole);
    g.gradient[row * g.size + p] = rounded;
    square += double(rounded) * double(rounded);
  }
  parts[me] = square;
  BLOCK_BARRIER(21);
  for (int half = threads / 2; half > 0; half /= 2) {
    if (me < half) parts[me] += parts[me + half];
    BLOCK_BARRIER(22);
  }
  double *shared_stop = parts + threads;
  if (me == 0) {
    double value = 0;
    for (int term = 0; term < g.terms; term++) value += g.weights[row * g.terms + term] * results[term];
    const T loss = T(value), norm = T(sqrt(parts[0]));
    g.loss[row] = loss;
    g.norm[row] = norm;
    if (g.x != nullptr && g.stopped[row] == NONE) {
      if (isnan(g.first_loss[row])) g.first_loss[row] = double(loss);
      const double limit = g.divergence[row] * g.first_loss[row];
      if (!isfinite(loss) || !isfinite(norm))
        g.stopped[row] = NOT_FINITE;
      else if (double(loss) > limit && limit > 0)
        g.stopped[row] = DIVERGED;
    }
    *shared_stop = g.x == nullptr || g.stopped[row] != NONE;
  }
  BLOCK_BARRIER(23);
  if (*shared_stop != 0) return;
  const T *c = g.coefficients + ((long)g.epochs[row] * g.rows + row) * 4, *k = g.constants + row * 3;
  for (long p = me; p < g.size; p += threads)
    step_of(g, g.rules[row], c, k, row * g.size + p, g.gradient[row * g.size + p]);
  BLOCK_BARRIER(24);
  if (me == 0) g.epochs[row]++;
}

template <typename T> struct KeepArguments {
  const T *loss, *norm, *terms_of;
  const double *errors; // sums of squares [rows, tasks, outputs] of the error, or null
  double *records;      // [slots, rows, 3 + terms]: loss, norm, error, terms
  int *slots;           // [rows]: the next one of each
  int rows, terms, tasks, outputs;
};

// A record of every network, one thread each.
template <typename T> __device__ __forceinline__ void keep(const KeepArguments<T> &g) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= g.rows) return;
  double *record = g.records + ((long)g.slots[row]++ * g.rows + row) * (3 + g.terms);
  record[0] = double(g.loss[row]);
  record[1] = double(g.norm[row]);
  double square = g.errors != nullptr ? 0 : NAN;
  for (int k = 0; g.errors != nullptr && k < g.tasks * g.outputs; k++) square += g.errors[(long)row * g.tasks * g.outputs + k];
  record[2] = sqrt(square);
  for (int term = 0; term < g.terms; term++) record[3 + term] = double(g.terms_of[row * g.terms + term]);
}

template <typename T> struct PullArguments {
  const T *outputs; // [rows, count]
  T *columns;       // [rows, 2, count]: the solution, and M r for r = output - solution
  const T *values;  // of M [rows, count, entries], rows filled up with zeros
  const int *places; // their columns, likewise
  int count, entries;
};

// M r of every point, one thread each; the grid's y are the networks.
template <typename T> __device__ __forceinline__ void pull(const PullArguments<T> &g) {
  const int row = blockIdx.y, point = blockIdx.x * blockDim.x + threadIdx.x;
  if (point >= g.count) return;
  const T *outputs = g.outputs + (long)row * g.count;
  T *solution = g.columns + (long)row * 2 * g.count;
  double sum = 0;
  for (int k = 0; k < g.entries; k++) {
    const long at = ((long)row * g.count + point) * g.entries + k;
    sum += double(g.values[at]) * double(outputs[g.places[at]] - solution[g.places[at]]);
  }
  solution[g.count + point] = T(sum);
}
