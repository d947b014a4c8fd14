// The memory of one decoding step: what the threads share, and what each has of its own. And which rows attend together.
#pragma once
#include <vector>

#include "absorbed.h"
#include "arranged.h"
#include "experts.h"
#include "team.h"

constexpr int64_t FEW_ROWS = 8;  // up to here, every thread prepares all rows for itself
constexpr int MOST_QUERIES = REGISTERS == 32 ? 4 : 3;  // that share the keys of a block as they are in the cache

// Rows of one text, at positions that follow each other. end: the position after the last new one of the text.
struct Tile { int64_t row, n, end; };
struct TileBlock { Tile tile; int64_t block; };

// What one thread needs to attend: for the queries that look at a block, their scores, the largest one and the sum of the
// weights of each, and the scales of the positions. A block that is arranged follows.
struct AttentionMemory {
  static constexpr int64_t NUMBERS = (MOST_QUERIES + 2) * BLOCK + 2 * LANES;
  float *scores, *most, *total, *key_scales, *value_scales, *arranged;

  explicit AttentionMemory(float* at)
      : scores(at), most(at + MOST_QUERIES * BLOCK), total(most + LANES), key_scales(total + LANES),
        value_scales(key_scales + BLOCK), arranged(at + NUMBERS) {}
};

// What a query has found in some blocks: its largest score, the sum of e^(score - largest) over the positions, and the
// same sum over the values (d).
struct Found { float *most, *total, *values; };

// What heads are as they attend to the cache. With latent attention all heads share one key, the latent and the rotated
// part, and one value, the latent; queries have the order of this key.
struct Heads {
  int64_t n, kv, d_query, d_key, d_value, d_output;  // kv: of keys; d_key: as they are cached; d_output: of a head
  bool is_latent;

  explicit Heads(const Model& m)
      : n(m.n_heads), kv(m.n_kv_heads), d_query(m.d_head), d_key(m.d_head), d_value(m.d_head), d_output(m.d_head),
        is_latent(m.latent.kv_rank > 0) {
    if (!is_latent) return;
    kv = 1;
    d_key = m.latent.d_rope;
    d_value = m.latent.kv_rank;
    d_query = d_key + d_value;
    d_output = m.latent.d_value;
  }
  int64_t group() const { return n / kv; }
};

// How the rows of a call attend in the layers of one kind.
struct Plan {
  std::vector<Tile> followed;        // tiles that one thread takes through all blocks
  std::vector<TileBlock> spread;     // those whose blocks are divided among the threads
  std::vector<int64_t> first, last;  // of the blocks whose results each row keeps apart; equal if a thread combines them
  std::vector<int64_t> found_at;     // where the results of each row begin
  int64_t n_blocks = 0, window = 0;  // window: 0 for none

  // Divides the rows into tiles. Returns how many numbers all that is found takes.
  int64_t make(const Heads& heads, const Call& call, int64_t seen) {
    window = seen;
    for (auto* x : {&first, &last, &found_at}) x->resize(call.rows);
    int64_t numbers = 0;
    for (int64_t begin = 0, end; begin < call.rows; begin = end) {
      for (end = begin + 1; end < call.rows && follows(call, end); ++end) continue;
      const bool spreads = !call.many[begin];
      const int64_t height = std::max(1, (spreads ? MOST_QUERIES : TILE_R) / int(heads.group()));
      n_blocks = std::max(n_blocks, last_block(call, end - 1) + 1);
      for (int64_t at = begin; at < end; at += height) {
        const Tile tile{at, std::min(height, end - at), call.places[end - 1] + 1};
        const int64_t to = last_block(call, at + tile.n - 1);
        const int64_t from = window ? std::max<int64_t>(0, call.places[at] - window + 1) / BLOCK : 0;
        if (!spreads) followed.push_back(tile);
        for (int64_t b = from; spreads && b <= to; ++b) spread.push_back({tile, b});
        for (int64_t r = at; r < at + tile.n; ++r) {
          first[r] = from;
          last[r] = spreads ? last_block(call, r) : from;
          found_at[r] = numbers;
          numbers += (spreads ? to - from + 1 : 1) * heads.n * (padded(heads.d_value, LANES) + LANES);
        }
      }
    }
    return numbers;
  }

  static int64_t last_block(const Call& call, int64_t r) { return call.places[r] / BLOCK; }

 private:
  static bool follows(const Call& call, int64_t r) {
    return call.texts[r] == call.texts[r - 1] && call.places[r] == call.places[r - 1] + 1 &&
           call.many[r] == call.many[r - 1];
  }
};

// With few rows every thread normalises and rounds all of them for itself, which is cheaper than to wait for another
// thread's result; with many, each does its share.
struct Step {
  const Model& m;
  const Call& call;
  Team& team;
  int64_t rows;
  bool many;
  const Heads shape;
  // Shared, (rows, ...). With latent attention k has the latent and the rotated part, `narrow` the vector that queries are
  // made from, and `raw` the queries as they are made. aside: what a sublayer adds, where it is changed.
  float *x, *q, *k, *v, *heads, *gate, *up, *aside, *narrow, *raw;
  float *logits, *added, *mixed;  // of mixtures of experts: the router's numbers; what one network adds, and all
  float *h, *mixture;                        // the normalised rows, and a MixtureMemory, shared where there are many
  char* input;                               // and rows that are prepared for a product
  float* partial;                            // two sets of (COLUMN_ROWS, widest) for each thread
  int64_t widest, share;  // the most outputs of any layer, and of one thread
  char* own;              // bytes_each for each thread
  int64_t bytes_each, attention_numbers, normed;  // normed: numbers of the normalised rows
  MixtureSizes mixtures;

  Plan plans[2];  // of the layers that see all positions, and of those with a window
  bool in_pairs;  // whether tiles that are followed multiply bfloat16 by bfloat16
  float* found_memory;

  Step(const Model& model, const Call& c, Team& t, std::vector<char>& memory)
      : m(model), call(c), team(t), rows(c.rows), shape(model), mixtures(model, c.rows) {
    many = rows > FEW_ROWS;
    int64_t found_numbers = 0;
    bool follows = false;
    for (const Layer* l = m.layers; l < m.layers + m.n_layers; ++l) {
      Plan& plan = plans[l->slides];
      if (plan.first.empty()) found_numbers = std::max(found_numbers, plan.make(shape, call, l->slides ? m.window : 0));
      follows |= !plan.followed.empty();
    }
    const int64_t D = m.d_model, H = shape.n, k_numbers = shape.is_latent ? shape.d_query : shape.kv * shape.d_key;
    int64_t hidden = 0, rank = 0;  // rank: of the vector that queries are made from
    bool columns = false;
    for (const Layer* l = m.layers; l < m.layers + m.n_layers; ++l) {
      for (const Linear* w : {&l->query, &l->key, &l->value, &l->output, &l->gate, &l->up, &l->down, &l->query_down,
                              &l->query_up, &l->key_value_down})
        columns |= w->weight && is_columns(*w);
      rank = std::max(rank, l->query_down.weight ? l->query_down.out : 0);
      hidden = std::max({hidden, l->up.out, l->router ? l->experts[1].out : 0});
      for (int i = 0; l->router && i < 3 * m.experts.n; ++i) columns |= l->experts[i].weight && is_columns(l->experts[i]);
    }
    widest = std::max({D, H * m.d_head, H * shape.d_output, k_numbers, rank, hidden});
    share = padded(widest / team.size() + LANES, LANES);
#if defined(HAS_DOT_BFLOAT16)
    const Layer& l = m.layers[0];  // where products round their inputs, attention may
    const Linear& w = l.query.weight ? l.query : l.query_down;
    in_pairs = call.cache_type != FLOAT32 && (is_a8(w) || is_bfloat16(w));
#else
    in_pairs = false;
#endif
    attention_numbers = AttentionMemory::NUMBERS + (!follows ? 0 : ArrangedBlock<Single>::numbers(shape.d_query));
    if (shape.is_latent)
      attention_numbers = std::max(attention_numbers, PartRows::numbers(std::max<int64_t>(shape.d_query, m.d_head)));
    attention_numbers = padded(attention_numbers, LANES);
    normed = padded(rows * D, LANES);
    const int64_t prepared = (normed + mixtures.numbers(D)) * 4 + std::max(padded(Input::bytes(rows, widest), 64), mixtures.prepared);
    bytes_each = padded((many ? 0 : prepared) + (padded(rows * share, LANES) + attention_numbers) * 4, 64) + 64;
    const int64_t mixes = m.experts.n ? D : 0, features = std::max(hidden, mixtures.features);
    const int64_t sizes[] = {D, H * shape.d_query, k_numbers, shape.is_latent ? 0 : k_numbers, H * shape.d_output, features,
                             features, sets_aside() ? D : 0, rank, shape.is_latent ? H * m.d_head : 0, m.experts.n, mixes,
                             mixes};
    float** places[] = {&x, &q, &k, &v, &heads, &gate, &up, &aside, &narrow, &raw, &logits, &added, &mixed};
    int64_t total = padded(found_numbers, LANES) * 4;
    for (int64_t size : sizes) total += padded(rows * size, LANES) * 4;
    const int64_t partials = columns ? 2 * team.size() * padded(COLUMN_ROWS * widest, LANES) * 4 : 0;
    const int64_t together = many ? prepared : 0;
    memory.resize(total + together + partials + team.size() * bytes_each + 64);
    char* at = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
    for (size_t i = 0; i < std::size(sizes); ++i) {
      *places[i] = reinterpret_cast<float*>(at);
      at += padded(rows * sizes[i], LANES) * 4;
    }
    found_memory = reinterpret_cast<float*>(at);
    at += padded(found_numbers, LANES) * 4;
    h = reinterpret_cast<float*>(at);
    mixture = h + normed;
    input = reinterpret_cast<char*>(mixture + mixtures.numbers(D));
    at += together;
    partial = reinterpret_cast<float*>(at);
    own = at + partials;
  }

  // Whether the output of a sublayer is changed before it is added.
  bool sets_aside() const { return m.placement == BOTH || m.residual_scale != 1; }

  // Rotates a head, or a part of one, to the place of row r.
  void turn(const Layer& layer, int64_t r, float* head) const {
    const int64_t at = (call.by_row ? r : call.places[r]) * (m.d_rotary / 2);
    const float *cosines = layer.slides ? call.local_cos : call.cos, *sines = layer.slides ? call.local_sin : call.sin;
    if (cosines) rotate(head, m.d_rotary, cosines + at, sines + at, head);
  }

  // The results of a row and a head in one of the blocks that the plan keeps apart.
  Found found(const Plan& plan, int64_t r, int64_t head, int64_t block) const {
    const int64_t wide = padded(shape.d_value, LANES), index = (block - plan.first[r]) * m.n_heads + head;
    float* values = found_memory + plan.found_at[r] + index * (wide + LANES);
    return {values + wide, values + wide + 1, values};
  }
};
