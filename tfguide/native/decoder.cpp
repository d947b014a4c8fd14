// One step of a decoder-only Transformer: embedding, blocks, cache, final norm, for a few new tokens of each row.
// The formulas are those of tfguide/reference; what is added is where the bytes lie and which thread touches them.
// Activations are float32 throughout, whatever the weights are. Called through ctypes by tfguide/native/library.py,
// which mirrors the structures below and checks every argument.
#include <pthread.h>

#include <memory>

#include "rowwise.h"
#include "team.h"

namespace {

struct Layer { Norm attention_norm, feed_forward_norm; Linear query, key, value, output, gate, up, down; };
enum Placement { PRE, POST, PARALLEL };

struct Model {
  int32_t n_layers, d_model, n_heads, n_kv_heads, d_head, d_ff;
  int32_t is_rms, placement, activation, window;  // window: 0 is none
  int32_t embedding_type;
  float eps, embedding_scale, attention_scale;
  const void* embedding;       // (V, D)
  const float* added;          // (D), added to every token, or null
  const float* slopes;         // (H), ALiBi, or null
  Norm embedding_norm, final_norm;
  const Layer* layers;
};

// All that one call may change or that changes between calls: several threads may be on their way here with one model.
struct Call {
  const int64_t* tokens;  // (B, T)
  const int64_t* starts;  // (B): where the first of a row's new tokens stands
  int64_t batch, n_tokens, max_length;
  void *const *keys, *const *values;  // L caches (B, max_length, K, d)
  float* hidden;                      // (B, T, D), the result
  const float* positions;             // (max_length, D), added by position, or null
  const float *cos, *sin;             // (max_length, d / 2), or null
  int32_t cache_type;
};

constexpr int64_t STEP_ROWS = 16;  // as MAX_ROWS in decoder.py: more rows are a prompt
constexpr int QUERIES = 4;         // of a prompt that look at a key while it is in a register

// What one thread needs of its own, and what all share. With few rows every thread normalises and rounds all of them
// for itself, which is cheaper than to wait for another one's result; with many, each does its share.
struct Step {
  const Model& m;
  const Call& call;
  Team& team;
  int64_t rows;
  bool many;
  float *x, *q, *k, *v, *heads, *gate, *up;  // shared, (rows, ...)
  float* h;                                  // the normalised rows, shared where there are many
  char* input;                               // and what they are rounded to
  float* partial;                                           // two sets of one (rows, widest) for each thread
  int64_t widest, share;  // the most outputs of any layer, and of one thread
  int64_t most_heads;     // of one row, for one thread; or the queries of one head
  char* own;              // bytes_each for each thread
  int64_t bytes_each;

  Step(const Model& model, const Call& c, Team& t, std::vector<char>& memory) : m(model), call(c), team(t) {
    rows = call.batch * call.n_tokens;
    many = rows > STEP_ROWS;
    const int64_t D = m.d_model, Hd = int64_t(m.n_heads) * m.d_head, Kd = int64_t(m.n_kv_heads) * m.d_head;
    widest = std::max({D, Hd, int64_t(m.d_ff)});
    bool columns = false;
    for (int l = 0; l < m.n_layers; ++l) columns |= is_columns(m.layers[l].query) || is_columns(m.layers[l].down);
    share = padded(widest / team.size() + LANES, LANES);
    most_heads = many ? QUERIES : std::min<int64_t>(m.n_heads, rows * m.n_heads / team.size() + 1);
    const int64_t normed = padded(rows * D * 4, 64), rounded = padded(Input::bytes(rows, widest), 64);
    bytes_each = padded((many ? 0 : normed + rounded) + rows * share * 4 +
                            most_heads * (padded(call.max_length, LANES) + padded(m.d_head, LANES)) * 4, 64) + 64;
    const int64_t sizes[] = {D, Hd, Kd, Kd, Hd, m.d_ff, m.d_ff};
    float** places[] = {&x, &q, &k, &v, &heads, &gate, &up};
    int64_t total = 0;
    for (int64_t size : sizes) total += padded(rows * size, LANES) * 4;
    const int64_t partials = columns ? 2 * team.size() * padded(rows * widest, LANES) * 4 : 0;
    const int64_t together = many ? normed + rounded : 0;
    memory.resize(total + together + partials + team.size() * bytes_each + 64);
    char* at = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
    for (int i = 0; i < 7; ++i) {
      *places[i] = reinterpret_cast<float*>(at);
      at += padded(rows * sizes[i], LANES) * 4;
    }
    h = reinterpret_cast<float*>(at);
    input = at + normed;
    at += together;
    partial = reinterpret_cast<float*>(at);
    own = at + partials;
  }
};

inline void normalise(const Model& m, const Norm& norm, const float* x, float* y) {
  normalise(norm, m.d_model, m.is_rms, m.eps, x, y);
}

// The positions of a head lie K d apart in the cache. No processor follows that through the ends of pages: we ask.
constexpr int64_t POSITIONS_AHEAD = 16;
template <class T>
inline void fetch_position(const T* at, int64_t n) {
  for (int64_t j = 0; j < n; j += 64 / int64_t(sizeof(T))) __builtin_prefetch(at + j);
}

const Floats COUNT = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

class Worker {
 public:
  Worker(Step& step, int id) : s(step), m(step.m), id(id), size(step.team.size()) {
    products = reinterpret_cast<float*>(s.own + id * s.bytes_each);
    scores = products + s.rows * s.share;
    queries = scores + s.most_heads * padded(s.call.max_length, LANES);
    float* rest = queries + s.most_heads * padded(m.d_head, LANES);
    h = s.many ? s.h : rest;
    for_input = s.many ? static_cast<void*>(s.input) : h + s.rows * m.d_model;
  }

  void run() {
    embed();
    for (int l = 0; l < m.n_layers; ++l) block(m.layers[l], l);
    if (m.final_norm.weight) each_row([&](int64_t r) { normalise(m, m.final_norm, x(r), x(r)); });
    each_row([&](int64_t r) { std::memcpy(s.call.hidden + r * m.d_model, x(r), m.d_model * sizeof(float)); });
  }

 private:
  Step& s;
  const Model& m;
  const int id, size;
  float *h, *products, *scores, *queries;
  void* for_input;
  int set = 0;

  float* x(int64_t r) { return s.x + r * m.d_model; }
  int64_t position(int64_t r) const { return s.call.starts[r / s.call.n_tokens] + r % s.call.n_tokens; }

  template <class F>
  void each_row(F&& act) {
    for (int64_t r = id; r < s.rows; r += size) act(r);
    s.team.barrier();
  }

  void embed() {
    each_row([&](int64_t r) {
      const int64_t D = m.d_model;
      with_type(m.embedding_type, [&](auto type) {
        const auto* row = static_cast<const decltype(type)*>(m.embedding) + s.call.tokens[r] * D;
        for (int64_t i = 0; i < D; ++i) x(r)[i] = to_float(row[i]) * m.embedding_scale;
      });
      for (int64_t i = 0; s.call.positions && i < D; ++i) x(r)[i] += s.call.positions[position(r) * D + i];
      for (int64_t i = 0; m.added && i < D; ++i) x(r)[i] += m.added[i];
      if (m.embedding_norm.weight) normalise(m, m.embedding_norm, x(r), x(r));
    });
  }

  void block(const Layer& layer, int index) {
    const float* input = normalised(layer.attention_norm);
    attention(layer, index, input);
    if (m.placement == POST) after(layer.attention_norm);
    // Parallel: both sublayers read the same h, which is this thread's own and has stayed.
    if (m.placement != PARALLEL) input = normalised(layer.feed_forward_norm);
    feed_forward(layer, input);
    if (m.placement == POST) after(layer.feed_forward_norm);
  }

  // Every row here, or where there are many this thread's share of them, and then all may read all.
  template <class F>
  void own_rows(F&& act) {
    for (int64_t r = s.many ? id : 0; r < s.rows; r += s.many ? size : 1) act(r);
    if (s.many) s.team.barrier();
  }

  // What a sublayer reads.
  const float* normalised(const Norm& norm) {
    if (m.placement == POST) return s.x;
    own_rows([&](int64_t r) { normalise(m, norm, x(r), h + r * m.d_model); });
    return h;
  }

  void after(const Norm& norm) {
    each_row([&](int64_t r) { normalise(m, norm, x(r), x(r)); });
  }

  // y = input W + b, or y += where `adds`; this thread's part of the outputs.
  void multiply(const Linear& w, const Input& input, float* y, bool adds) {
    const Part part(w.out, id, size);
    int64_t ld = part.last - part.first, stride = 0;
    float* to = products - part.first;  // as if it began at the first output
    int shares = 1;
    if (is_columns(w)) {
      stride = padded(s.rows * s.widest, LANES);
      ld = w.out;
      to = s.partial + set * size * stride;
      set ^= 1;  // the other threads may still be adding up what the product before this one left
      partial_sums(w, input.x, w.in, s.rows, to + id * stride, Part(w.in, id, size));
      s.team.barrier();
      shares = size;
    } else {
      product(w, input, s.rows, to, ld, part);
    }
    for (int64_t r = 0; r < s.rows; ++r)
      for (int64_t o = part.first; o < part.last; ++o) {
        float value = w.bias ? w.bias[o] : 0.0f;
        for (int share = 0; share < shares; ++share) value += to[share * stride + r * ld + o];
        y[r * w.out + o] = adds ? y[r * w.out + o] + value : value;
      }
  }

  // The input as the format of these weights wants it.
  Input prepared(const Linear& w, const float* x) {
    Input input(x, s.rows, w.in, for_input);
    own_rows([&](int64_t r) { input.prepare(w, r); });
    return input;
  }

  void attention(const Layer& layer, int index, const float* from) {
    const Input input = prepared(layer.query, from);
    multiply(layer.query, input, s.q, false);
    multiply(layer.key, input, s.k, false);
    multiply(layer.value, input, s.v, false);
    s.team.barrier();
    with_type(s.call.cache_type, [&](auto type) {
      using T = decltype(type);
      T *keys = static_cast<T*>(s.call.keys[index]), *values = static_cast<T*>(s.call.values[index]);
      const int64_t units = s.rows * m.n_kv_heads;
      for (int64_t u = units * id / size; u < units * (id + 1) / size; ++u)
        append(u / m.n_kv_heads, u % m.n_kv_heads, keys, values);
      s.team.barrier();
      if (s.many) return attend_prompt(keys, values);
      const int64_t all = s.rows * m.n_heads, last = all * (id + 1) / size;
      for (int64_t u = all * id / size; u < last;) {  // the heads of one row together
        const int64_t r = u / m.n_heads, head = u % m.n_heads, n = std::min(last - u, m.n_heads - head);
        attend(r, head, n, keys, values);
        u += n;
      }
    });
    s.team.barrier();
    multiply(layer.output, prepared(layer.output, s.heads), s.x, true);
    s.team.barrier();
  }

  void rotate(int64_t p, const float* from, float* to) const {
    const int64_t half = m.d_head / 2;
    if (!s.call.cos) {
      if (to != from) std::memcpy(to, from, m.d_head * sizeof(float));
      return;
    }
    const float *cos = s.call.cos + p * half, *sin = s.call.sin + p * half;
    for (int64_t i = 0; i < half; ++i) {
      const float first = from[i], second = from[half + i];
      to[i] = first * cos[i] - second * sin[i];
      to[half + i] = second * cos[i] + first * sin[i];
    }
  }

  template <class T>
  T* slot(T* cache, int64_t r, int64_t p, int64_t kv) const {
    const int64_t b = r / s.call.n_tokens;
    return cache + ((b * s.call.max_length + p) * m.n_kv_heads + kv) * m.d_head;
  }

  template <class T>
  void append(int64_t r, int64_t kv, T* keys, T* values) {
    const int64_t d = m.d_head;
    float* key = s.k + (r * m.n_kv_heads + kv) * d;
    const float* value = s.v + (r * m.n_kv_heads + kv) * d;
    rotate(position(r), key, key);
    T *to = slot(keys, r, position(r), kv), *value_to = slot(values, r, position(r), kv);
    for (int64_t i = 0; i < d; ++i) store(to + i, key[i]);
    for (int64_t i = 0; i < d; ++i) store(value_to + i, value[i]);
  }

  // The heads [head, head + n_heads) of row r. All of them look at a few positions before any looks at the next ones:
  // so the cache is read once, from its beginning to its end, and heads that share keys find them near.
  template <class T>
  void attend(int64_t r, int64_t head, int64_t n_heads, const T* keys, const T* values) {
    const int64_t d = m.d_head, p = position(r), group = m.n_heads / m.n_kv_heads;
    const int64_t first = m.window && p >= m.window ? p - m.window + 1 : 0, n = p + 1 - first;
    const int64_t ld = int64_t(m.n_kv_heads) * d, room = padded(n, LANES), wide = padded(d, LANES);
    const T *key = slot(keys, r, first, 0), *value = slot(values, r, first, 0);
    float* to = s.heads + (r * m.n_heads + head) * d;

    for (int64_t h = 0; h < n_heads; ++h) rotate(p, s.q + (r * m.n_heads + head + h) * d, queries + h * wide);
    for (int64_t i = 0; i < n; i += LANES)
      for (int64_t h = 0; h < n_heads; ++h) {
        const T* from = key + i * ld + (head + h) / group * d;
        Floats found;
        score<1>(queries + h * wide, wide, from, ld, std::min<int64_t>(LANES, n - i), &found);
        write(scores + h * room + i, m.slopes ? found - m.slopes[head + h] * (float(n - 1 - i) - COUNT) : found);
      }
    for (int64_t h = 0; h < n_heads; ++h) softmax(scores + h * room, n);
    std::memset(to, 0, n_heads * d * sizeof(float));
    for (int64_t i = 0; i < n; i += LANES)
      for (int64_t h = 0; h < n_heads; ++h) {
        const float* weights = scores + h * room + i;
        const T* from = value + i * ld + (head + h) / group * d;
        add_all<1>(from, ld, std::min<int64_t>(LANES, n - i), weights, 0, to + h * d, 0);
      }
  }

  // A prompt: a few queries of one head after the other, which look at the same keys but for the last ones. What is
  // computed for a query is what `attend` computes, in the same order, so that no result depends on the other rows.
  template <class T>
  void attend_prompt(const T* keys, const T* values) {
    const int64_t tiles = (s.call.n_tokens + QUERIES - 1) / QUERIES, units = s.call.batch * tiles * m.n_heads;
    for (int64_t u = id; u < units; u += size) {  // in turns: the later a query, the more keys it sees
      const int64_t head = u % m.n_heads, tile = u / m.n_heads, first = tile % tiles * QUERIES;
      const int64_t r = tile / tiles * s.call.n_tokens + first, n = std::min<int64_t>(QUERIES, s.call.n_tokens - first);
      if (n == QUERIES && !(m.window && position(r + n - 1) >= m.window)) {
        attend_together<QUERIES>(r, head, keys, values);
      } else {
        for (int64_t i = 0; i < n; ++i) attend(r + i, head, 1, keys, values);
      }
    }
  }

  template <int Q, class T>
  void attend_together(int64_t r, int64_t head, const T* keys, const T* values) {
    const int64_t d = m.d_head, p = position(r), group = m.n_heads / m.n_kv_heads, all_see = p + 1, n = p + Q;
    const int64_t ld = int64_t(m.n_kv_heads) * d, room = padded(n, LANES), wide = padded(d, LANES);
    const T *key = slot(keys, r, 0, head / group), *value = slot(values, r, 0, head / group);
    float* to = s.heads + (r * m.n_heads + head) * d;
    const int64_t next = int64_t(m.n_heads) * d;

    for (int q = 0; q < Q; ++q) rotate(p + q, s.q + ((r + q) * m.n_heads + head) * d, queries + q * wide);
    for (int64_t i = 0; i < n; i += LANES) {
      Floats found[Q];
      score<Q>(queries, wide, key + i * ld, ld, std::min<int64_t>(LANES, n - i), found);
      for (int q = 0; q < Q; ++q)
        write(scores + q * room + i, m.slopes ? found[q] - m.slopes[head] * (float(p + q - i) - COUNT) : found[q]);
    }
    for (int q = 0; q < Q; ++q) {
      softmax(scores + q * room, all_see + q);
      std::memset(to + q * next, 0, d * sizeof(float));
    }
    add_all<Q>(value, ld, all_see, scores, room, to, next);
    for (int q = 1; q < Q; ++q)
      add_all<1>(value + all_see * ld, ld, q, scores + q * room + all_see, room, to + q * next, next);
  }

  // Q queries, `wide` numbers apart, with up to 16 keys.
  template <int Q, class T>
  void score(const float* query, int64_t wide, const T* key, int64_t ld, int64_t n, Floats* found) const {
    Floats parts[Q][LANES];
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) dots<Q, 4>(query, wide, key, ld, i, parts);  // what is loaded serves four times
    for (; i < n; ++i) dots<Q, 1>(query, wide, key, ld, i, parts);
    for (int q = 0; q < Q; ++q) {
      for (i = n; i < LANES; ++i) parts[q][i] = Floats{};
      found[q] = sums(parts[q]) * m.attention_scale;
    }
  }

  // parts[q][i + k], whose sum is the product of query q and key i + k.
  template <int Q, int K, class T>
  void dots(const float* query, int64_t wide, const T* key, int64_t ld, int64_t i, Floats (*parts)[LANES]) const {
    const int64_t d = m.d_head;
    const T* at = key + i * ld;
    for (int k = 0; Q == 1 && k < K; ++k) fetch_position(at + (k + POSITIONS_AHEAD) * ld, d);
    Floats acc[Q][K] = {};
    int64_t j = 0;
    for (; j + LANES <= d; j += LANES) {
      Floats some[K];
      for (int k = 0; k < K; ++k) some[k] = load(at + k * ld + j);
      for (int q = 0; q < Q; ++q) {
        const Floats one = load(query + q * wide + j);
        for (int k = 0; k < K; ++k) acc[q][k] += one * some[k];
      }
    }
    for (int q = 0; q < Q; ++q)
      for (int k = 0; k < K; ++k) {
        float rest = 0;  // std::fma: the compiler may contract a product and a sum for one Q and not for another
        for (int64_t o = j; o < d; ++o) rest = std::fma(query[q * wide + o], to_float(at[k * ld + o]), rest);
        acc[q][k][0] += rest;
        parts[q][i + k] = acc[q][k];
      }
  }

  // n scores to weights that add up to 1; what pads them to a multiple of 16 to 0.
  void softmax(float* x, int64_t n) const {
    for (int64_t i = n; i < padded(n, LANES); ++i) x[i] = -INFINITY;
    Floats most = load(x), totals = {};
    for (int64_t i = LANES; i < n; i += LANES) most = load(x + i) > most ? load(x + i) : most;
    const float largest = maximum(most);
    for (int64_t i = 0; i < n; i += LANES) {
      const Floats e = exponential(load(x + i) - largest);
      write(x + i, e);
      totals += e;
    }
    const float factor = 1.0f / sum(totals);
    for (int64_t i = 0; i < n; i += LANES) write(x + i, load(x + i) * factor);
  }

  // to += the weighted sum of n values, for Q queries: their weights lie `room` apart, their results `next`.
  template <int Q, class T>
  void add_all(const T* value, int64_t ld, int64_t n, const float* weights, int64_t room, float* to, int64_t next) const {
    const int64_t d = m.d_head;
    int64_t j = 0;
    for (; j + 4 * LANES <= d; j += 4 * LANES) add<Q, 4>(value + j, ld, n, weights, room, to + j, next);
    for (; j + LANES <= d; j += LANES) add<Q, 1>(value + j, ld, n, weights, room, to + j, next);
    for (; j < d; ++j)
      for (int q = 0; q < Q; ++q) {
        float* sum = to + q * next + j;
        for (int64_t k = 0; k < n; ++k) *sum = std::fma(weights[q * room + k], to_float(value[k * ld + j]), *sum);
      }
  }

  template <int Q, int N, class T>
  void add(const T* value, int64_t ld, int64_t n, const float* weights, int64_t room, float* to, int64_t next) const {
    Floats acc[Q][N];
    for (int q = 0; q < Q; ++q)
      for (int c = 0; c < N; ++c) acc[q][c] = load(to + q * next + c * LANES);
    for (int64_t i = 0; i < n; ++i) {
      if (Q == 1) fetch_position(value + (i + POSITIONS_AHEAD) * ld, N * LANES);
      for (int c = 0; c < N; ++c) {
        const Floats some = load(value + i * ld + c * LANES);
        for (int q = 0; q < Q; ++q) acc[q][c] += some * weights[q * room + i];
      }
    }
    for (int q = 0; q < Q; ++q)
      for (int c = 0; c < N; ++c) write(to + q * next + c * LANES, acc[q][c]);
  }

  void feed_forward(const Layer& layer, const float* from) {
    const int64_t F = m.d_ff;
    const Input input = prepared(layer.up, from);
    const bool gated = layer.gate.weight != nullptr;
    if (gated) multiply(layer.gate, input, s.gate, false);
    multiply(layer.up, input, s.up, false);
    const Part part(F, id, size);
    for (int64_t r = 0; r < s.rows; ++r)
      for (int64_t o = part.first; o < part.last; o += LANES) {
        float *up = s.up + r * F + o, *gate = gated ? s.gate + r * F + o : up;
        const int64_t n = std::min<int64_t>(LANES, part.last - o);
        Floats a = {}, b = all(1.0f);
        std::memcpy(&a, gate, n * sizeof(float));
        if (gated) std::memcpy(&b, up, n * sizeof(float));
        a = bend(m.activation, a) * b;
        std::memcpy(up, &a, n * sizeof(float));
      }
    s.team.barrier();
    multiply(layer.down, prepared(layer.down, s.up), s.x, true);
    s.team.barrier();
  }
};

constexpr int64_t CHUNK = 128;     // rows of a product at a time: what they are rounded to stays in the cache
std::mutex one_at_a_time;
std::unique_ptr<Team> current;
std::vector<char> scratch;

Team& team_of(int size) {
  static Team alone(1);
  if (size == 1) return alone;
  if (current && !current->is_alive()) current.release();
  if (!current || current->size() != size) current = std::make_unique<Team>(size);
  return *current;
}

// A process may be forked while another of its threads computes here. The child would find the lock taken by a thread
// that it does not have: so a fork waits for the lock.
struct ForkSafety {
  ForkSafety() {
    pthread_atfork([] { one_at_a_time.lock(); }, [] { one_at_a_time.unlock(); }, [] { one_at_a_time.unlock(); });
  }
} fork_safety;

struct Product {
  const Linear& w;
  const float* x;
  int64_t rows;
  float* y;
  Team& team;
  char* memory;
  float* partial;

  void run(int id) {
    for (int64_t first = 0; first < rows; first += CHUNK) {
      if (first) team.barrier();  // the others may still read what the rows before were rounded to
      chunk(id, x + first * w.in, std::min(CHUNK, rows - first), y + first * w.out);
    }
  }

  void chunk(int id, const float* x, int64_t rows, float* y) {
    const int size = team.size();
    Input input(x, rows, w.in, memory);
    for (int64_t r = id; r < rows; r += size) input.prepare(w, r);
    team.barrier();
    const Part part(w.out, id, size);
    if (is_columns(w)) {
      partial_sums(w, x, w.in, rows, partial + id * rows * w.out, Part(w.in, id, size));
      team.barrier();
    } else {
      product(w, input, rows, y, w.out, part);
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t o = part.first; o < part.last; ++o) {
        float value = is_columns(w) ? 0.0f : y[r * w.out + o];
        for (int t = 0; is_columns(w) && t < size; ++t) value += partial[(t * rows + r) * w.out + o];
        y[r * w.out + o] = value + (w.bias ? w.bias[o] : 0.0f);
      }
  }
};

struct Reading {
  const char* from;
  int64_t bytes;
  Team& team;
  float total[64 * LANES];

  void run(int id) {
    const Part part(bytes / 4, id, team.size());
    const float* x = reinterpret_cast<const float*>(from);
    Floats acc[8] = {};
    for (int64_t i = part.first; i + 8 * LANES <= part.last; i += 8 * LANES)
      for (int u = 0; u < 8; ++u) {
        fetch<LITTLE>(x + i + u * LANES);
        acc[u] += load(x + i + u * LANES);
      }
    for (int u = 1; u < 8; ++u) acc[0] += acc[u];
    total[id * LANES] = sum(acc[0]);
  }
};

template <class J>
void run_on(Team& team, J& job, bool soon = false) {
  team.run([](void* context, int id) { static_cast<J*>(context)->run(id); }, &job, soon);
}

// What stands between the products of a prompt, in so many shares for each thread.
constexpr int SHARES = 4;

template <class J>
void share_on(Team& team, J&& job) {
  team.share([](void* context, int64_t i) { (*static_cast<std::remove_reference_t<J>*>(context))(int(i)); }, &job,
             SHARES * team.size());
}

struct Decoding {
  Step& step;
  void run(int id) { Worker(step, id).run(); }
};

}  // namespace

extern "C" {

void tfguide_step(const Model* model, const Call* call, int threads) {
  std::lock_guard<std::mutex> lock(one_at_a_time);
  Team& team = team_of(threads);
  Step step(*model, *call, team, scratch);
  Decoding job{step};
  run_on(team, job, true);  // the head follows
}

void tfguide_linear(const Linear* linear, const float* x, int64_t rows, float* y, int threads) {
  std::lock_guard<std::mutex> lock(one_at_a_time);
  Team& team = team_of(threads);
  const int64_t at_once = std::min(rows, CHUNK), prepared = padded(Input::bytes(at_once, linear->in), 64);
  const int64_t partial = is_columns(*linear) ? team.size() * at_once * linear->out * 4 : 0;
  scratch.resize(prepared + partial + 64);
  Product job{*linear, x, rows, y, team, scratch.data(), reinterpret_cast<float*>(scratch.data() + prepared)};
  run_on(team, job, rows <= STEP_ROWS);  // the head, and then the next step
}

void tfguide_rowwise(const Rowwise* work, int threads) {
  std::lock_guard<std::mutex> lock(one_at_a_time);
  Team& team = team_of(threads);
  share_on(team, [&](int i) { work->run(i, SHARES * team.size()); });
}

void tfguide_unpack(const Linear* linear, void* to, int type, int threads) {
  std::lock_guard<std::mutex> lock(one_at_a_time);
  Team& team = team_of(threads);
  share_on(team, [&](int i) {
    const Part part(linear->out, i, SHARES * team.size());
    with_type(type, [&](auto sample) { unpack(*linear, static_cast<decltype(sample)*>(to), part); });
  });
}

// Reads all the bytes once; what it returns depends on each of them, so that no compiler can leave the reading out.
float tfguide_read(const void* from, int64_t bytes, int threads) {
  std::lock_guard<std::mutex> lock(one_at_a_time);
  Team& team = team_of(std::min(threads, 64));
  Reading job{static_cast<const char*>(from), bytes, team, {}};
  run_on(team, job);
  float total = 0;
  for (int id = 0; id < team.size(); ++id) total += job.total[id * LANES];
  return total;
}
}
