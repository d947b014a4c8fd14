// The memory of one decoding step: what the threads share, and what each has of its own.
#pragma once
#include <vector>

#include "inputs.h"
#include "team.h"

constexpr int QUERIES = 4;  // of a prompt, which look at a key while it is in a register

// With few rows every thread normalises and rounds all of them for itself, which is cheaper than to wait for another
// thread's result; with many, each does its share.
struct Step {
  const Model& m;
  const Call& call;
  Team& team;
  int64_t rows;
  bool many;
  float *x, *q, *k, *v, *heads, *gate, *up;  // shared, (rows, ...)
  float* h;                                  // the normalised rows, shared where there are many
  char* input;                               // and the same rows, prepared for a product
  float* partial;                            // two sets of (rows, widest) for each thread
  int64_t widest, share;  // the most outputs of any layer, and of one thread
  int64_t most_heads;     // the most heads of one row for one thread; with many rows, the queries of one head
  char* own;              // bytes_each for each thread
  int64_t bytes_each;

  Step(const Model& model, const Call& c, Team& t, std::vector<char>& memory) : m(model), call(c), team(t) {
    rows = call.batch * call.n_tokens;
    many = rows > MAX_ROWS;
    const int64_t D = m.d_model, Hd = int64_t(m.n_heads) * m.d_head, Kd = int64_t(m.n_kv_heads) * m.d_head;
    widest = std::max({D, Hd, int64_t(m.d_ff)});
    bool columns = false;
    for (const Layer* l = m.layers; l < m.layers + m.n_layers; ++l)
      for (const Linear* w : {&l->query, &l->key, &l->value, &l->output, &l->gate, &l->up, &l->down})
        columns |= is_columns(*w);
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

  // The position of row r of the new tokens in its text.
  int64_t position(int64_t r) const { return call.starts[r / call.n_tokens] + r % call.n_tokens; }
};
