// Attention of new tokens to the cache of one layer. T: the type of the cache.
//
// The positions of a text are divided into blocks of 512. A query attends to each block by itself, and the results are
// combined in the order of the blocks. So a long text has work for every thread, a block stays in the processor's cache
// while all queries read it, and no result depends on the number of threads or on the other queries.
#pragma once
#include "rows.h"
#include "scores.h"
#include "step.h"
#include "types.h"

inline void assign(const Found& to, const Found& from, int64_t d) {
  *to.most = *from.most;
  *to.total = *from.total;
  std::memcpy(to.values, from.values, d * sizeof(float));
}

// Adds the block `b` to what was found before it.
[[gnu::noinline]] inline void combine(const Found& a, const Found& b, int64_t d) {
  const auto is_empty = [](const Found& x) { return *x.most == -INFINITY && *x.total == 0; };  // beyond a window
  if (is_empty(b)) return;
  if (is_empty(a)) return assign(a, b, d);
  const float most = *a.most > *b.most ? *a.most : *b.most;
  const float factors[2] = {exponential(all(*a.most - most))[0], exponential(all(*b.most - most))[0]};
  *a.total = *a.total * factors[0] + *b.total * factors[1];
  for (int64_t j = 0; j < d; ++j) a.values[j] = a.values[j] * factors[0] + b.values[j] * factors[1];
  *a.most = most;
}

template <class T>
struct Attention {
  static constexpr bool HAS_SCALES = std::is_same_v<T, int8_t>;

  const Step& s;
  const Model& m;
  const Layer& layer;
  const Plan& plan;
  T *keys, *values;                  // (B, slots, K, d), or see Heads
  float *key_scales, *value_scales;  // (B, slots, K), of an 8-bit cache
  AttentionMemory own;  // of this thread
  const Heads& n = s.shape;

  // Where the key of head kv at position p of row r's text lies, in keys from the beginning of the cache.
  int64_t place(int64_t r, int64_t p, int64_t kv) const {
    const Call& c = s.call;
    if (c.tables) {
      const int64_t page = c.tables[c.texts[r] * c.n_pages + (p >> c.page_bits)];
      return ((page << c.page_bits) + (p & (slots_of_run() - 1))) * n.kv + kv;
    }
    const int64_t slots = layer.slides ? c.ring : c.max_length;  // whole blocks: none is torn apart
    return (c.texts[r] * slots + p % slots) * n.kv + kv;
  }

  // The positions of a block, a power of two, that lie one after the other in the cache.
  int64_t slots_of_run() const { return s.call.tables ? int64_t(1) << s.call.page_bits : BLOCK; }

  // Calls act(first, last, at) for the runs of the positions [low, high) of block b: key i of a run lies at + i K.
  template <class F>
  void each_run(int64_t r, int64_t b, int64_t kv, int64_t low, int64_t high, F&& act) const {
    const int64_t slots = slots_of_run();
    for (int64_t first = low, last; first < high; first = last) {
      last = std::min((first & -slots) + slots, high);
      act(first, last, place(r, b * BLOCK + first, kv) - first * n.kv);
    }
  }

  // Normalises a head of row r, where its model does, and rotates it to the place of that row.
  void place_head(const Norm& norm, int64_t r, float* head) const {
    if (norm.weight) normalise(norm, m.d_head, true, m.eps, head, head, 0, m.d_head);
    s.turn(layer, r, head);
  }

  // Writes the key and the value of head kv of row r into the cache, and places the queries that read it.
  [[gnu::noinline]] void append(int64_t r, int64_t kv) {
    const int64_t d = m.d_head, p = s.call.places[r], at = place(r, p, kv);
    if (n.is_latent) return append_latent(r, at);
    float* key = s.k + (r * n.kv + kv) * d;
    place_head(layer.key_norm, r, key);
    keep(key, d, keys + at * d, key_scales, at);
    keep(s.v + (r * n.kv + kv) * d, d, values + at * d, value_scales, at);
    for (int64_t h = kv * n.group(); h < (kv + 1) * n.group(); ++h)
      place_head(layer.query_norm, r, s.q + (r * n.n + h) * d);
  }

  void append_latent(int64_t r, int64_t at) {
    float *latent = s.k + r * n.d_query, *rope = latent + n.d_value;
    normalise(layer.key_value_norm, n.d_value, true, m.latent.eps, latent, latent, 0, n.d_value);
    s.turn(layer, r, rope);
    keep(rope, n.d_key, keys + at * n.d_key, key_scales, at);
    keep(latent, n.d_value, values + at * n.d_value, value_scales, at);
  }

  void keep(const float* from, int64_t d, T* to, float* scales, int64_t at) const {
    if constexpr (HAS_SCALES) {  // by division, as the frameworks' caches
      float most = 0, broken = 0;  // NaN if a number is NaN or infinite
      for (int64_t i = 0; i < d; ++i) most = std::max(most, std::fabs(from[i])), broken += 0 * from[i];
      scales[at] = most / 127.0f + broken;
      for (int64_t i = 0; i < d; ++i) to[i] = int8_t(rounded(all(most > 0 ? from[i] / scales[at] : 0.0f))[0]);
    } else {
      store_row(from, d, to);
      if constexpr (std::is_same_v<T, Float16>)  // infinity would hide a position without an error
        for (int64_t i = 0; i < d; ++i)
          if (std::fabs(from[i]) >= 65520.0f) to[i] = Float16{0x7e00};
    }
  }

  // One thread's part. Where a text has many new rows, a thread takes some of them through all blocks, which it arranges
  // for them. Where it has few, the blocks are divided among the threads, which leave what they found in each.
  void attend(int id, int size) {
#if defined(HAS_DOT_BFLOAT16)
    if (s.in_pairs) follow<Pairs>(id, size);
#endif
    if (!s.in_pairs) follow<Single>(id, size);
    // Where few blocks are spread, heads are divided, too, and so are the queries of one key that take several turns.
    const int64_t units = plan.spread.size(), turns = (n.group() + MOST_QUERIES - 1) / MOST_QUERIES;
    const int64_t parts = units < 2 * size ? n.kv * turns : 1, each = n.kv * turns / parts;
    for (int64_t u = units * parts * id / size; u < units * parts * (id + 1) / size; ++u) {
      const TileBlock& unit = plan.spread[u / parts];
      for (int64_t i = u % parts * each; i < (u % parts + 1) * each; ++i) {
        const int64_t kv = i / turns;
        each_group<MOST_QUERIES>(unit.tile, kv, [&](auto Q, const Query* queries, int64_t turn) {
          if (turn != i % turns) return;
          Found found[Q()];
          for (int q = 0; q < Q(); ++q) found[q] = s.found(plan, queries[q].row, queries[q].head, unit.block);
          look<Q()>(queries, kv, unit.block, found);
        });
      }
    }
  }

  // After all have arrived: what was found in the blocks, combined, and divided by the sum of the weights.
  void finish(int id, int size) {
    const int64_t d = n.d_value, H = n.n;
    for (int64_t u = id; u < s.rows * H; u += size) {
      float* to = n.is_latent ? s.q + u * n.d_query : s.heads + u * d;  // a mean of latents takes the place of its query
      const int64_t r = u / H, head = u % H;
      const Found found = s.found(plan, r, head, plan.first[r]);
      for (int64_t b = plan.first[r] + 1; b <= plan.last[r]; ++b)
        combine(found, s.found(plan, r, head, b), d);
      const float sink = layer.sinks ? std::exp(layer.sinks[head] - *found.most) : 0;
      const float factor = 1.0f / (*found.total + sink);
      for (int64_t j = 0; j < d; ++j) to[j] = found.values[j] * factor;
    }
  }

 private:
  struct Query { int64_t row, head; };

  // The queries of a tile that read head kv, at most MOST in a turn.
  template <int MOST, class F>
  void each_group(const Tile& tile, int64_t kv, F&& act) {
    Query queries[MOST];
    int64_t turn = 0;
    in_tiles<MOST>(tile.n * n.group(), [&](auto Q, int64_t first) {
      for (int q = 0; q < Q(); ++q)
        queries[q] = {tile.row + (first + q) / n.group(), kv * n.group() + (first + q) % n.group()};
      act(Q, queries, turn++);
    });
  }

  template <class A>
  void follow(int id, int size) {
    ArrangedBlock<A> block(n.d_query, n.d_value, n.is_latent, own.arranged);
    for (int64_t kv = 0; kv < n.kv; ++kv)
      for (int64_t b = 0; b < plan.n_blocks; ++b) {
        int64_t text = -1, end = 0;  // whose block is arranged, up to which place of the text
        for (size_t t = id; t < plan.followed.size(); t += size) {
          const Tile& tile = plan.followed[t];
          if (b < plan.first[tile.row] || b > Plan::last_block(s.call, tile.row + tile.n - 1)) continue;
          if (text != s.call.texts[tile.row] || end != tile.end) {
            text = s.call.texts[tile.row], end = tile.end;
            block.finite = true;
            each_run(tile.row, b, kv, 0, std::min(BLOCK, end - b * BLOCK), [&](int64_t first, int64_t last, int64_t at) {
              block.take(keys, values, HAS_SCALES ? key_scales : nullptr, HAS_SCALES ? value_scales : nullptr, n.kv, at,
                         first, last);
            });
          }
          each_group<TILE_R>(tile, kv, [&](auto Q, const Query* queries, int64_t) {
            look_arranged<Q()>(queries, kv, b, block);
          });
        }
      }
  }

  // What a query sees of block b: positions within the block.
  struct Seen {
    int64_t low, high;
    Seen(const Attention& a, int64_t row, int64_t b) {
      const int64_t p = a.s.call.places[row] - b * BLOCK, window = a.plan.window;
      low = window ? std::clamp<int64_t>(p - window + 1, 0, BLOCK) : 0;
      high = std::clamp<int64_t>(p + 1, low, BLOCK);
    }
  };

  // Q queries and block b, added to what they found before.
  template <int Q, class A>
  [[gnu::noinline]] void look_arranged(const Query* queries, int64_t kv, int64_t b, ArrangedBlock<A>& block) {
    const int64_t d = n.d_query;
    int64_t low = BLOCK, high = 0;
    for (int q = 0; q < Q; ++q) {
      const Seen seen(*this, queries[q].row, b);
      low = std::min(low, seen.low), high = std::max(high, seen.high);
      A::round(s.q + (queries[q].row * n.n + queries[q].head) * d, d, block.query + q * block.wide);
    }
    low = low / WIDTH * WIDTH;
    if (block.finite) {
      block.template score<Q>(low, high);
      for (int q = 0; q < Q; ++q) {
        float* scores = block.scores + q * LD_BLOCK;
        weigh(queries[q], b, scores, low, high, nullptr, nullptr, Found{own.most + q, own.total + q, nullptr});
        A::round(scores + low, padded(high - low, A::NUMBERS), reinterpret_cast<uint32_t*>(scores) + low / A::NUMBERS);
      }
      block.template add<Q>(low, high);
    }
    for (int q = 0; q < Q; ++q) {
      Found found{own.most + q, own.total + q, block.sums + q * block.wide};
      if (!block.finite) look<1>(queries + q, kv, b, &found);
      const int64_t row = queries[q].row, first = plan.first[row];
      const Found before = s.found(plan, row, queries[q].head, first);
      b > first ? combine(before, found, n.d_value) : assign(before, found, n.d_value);
    }
  }

  // Q queries of one text and the positions of block b, as they are in the cache: found[q], from nothing.
  template <int Q>
  void look(const Query* queries, int64_t kv, int64_t b, Found* found) {
    const int64_t d = n.d_value, K = n.kv, ld = K * d, row = queries[0].row;
    int64_t lows[Q], highs[Q], low = BLOCK, high = 0, all_low = 0, all_high = BLOCK;
    const float *query[Q], *rotated[Q];
    float *scores[Q], *to[Q];
    for (int q = 0; q < Q; ++q) {
      const Seen seen(*this, queries[q].row, b);
      lows[q] = seen.low, highs[q] = seen.high;
      low = std::min(low, lows[q]), high = std::max(high, highs[q]);
      all_low = std::max(all_low, lows[q]), all_high = std::min(all_high, highs[q]);
      query[q] = s.q + (queries[q].row * n.n + queries[q].head) * n.d_query;
      rotated[q] = query[q] + n.d_value;
      scores[q] = own.scores + q * BLOCK;
      to[q] = found[q].values;
      std::memset(to[q], 0, d * sizeof(float));
    }
    low = low / WIDTH * WIDTH;
    const T* front = n.is_latent ? values : keys;  // what the scores read at first: all of a key, or its latent
    const auto key_at = [&](int64_t i) { return place(row, b * BLOCK + i, kv); };
    each_run(row, b, kv, low, high, [&](int64_t first, int64_t last, int64_t at) {
      for (int64_t i = first; HAS_SCALES && i < last; ++i) {
        own.key_scales[i] = key_scales[at + i * K];
        own.value_scales[i] = value_scales[at + i * K];
      }
      for (int64_t i = first; i < last; i += WIDTH) {
        Floats some[Q];
        const int64_t ahead = i + POSITIONS_AHEAD, count = std::min<int64_t>(WIDTH, last - i);
        // After the keys come the values.
        const T* then = ahead < last   ? front + (at + ahead * K) * d
                        : ahead < high ? front + key_at(ahead) * d
                                       : values + key_at(std::min(low + ahead - high, high - 1)) * d;
        score<Q>(query, front + (at + i * K) * d, ld, count, d, then, some);
        if (n.is_latent) add_rotated<Q>(rotated, keys + (at + i * K) * n.d_key, count, i, some);
        for (int q = 0; q < Q; ++q) write(scores[q] + i, some[q]);
      }
    });
    for (int q = 0; q < Q; ++q)
      weigh(queries[q], b, scores[q], low, high, HAS_SCALES && !n.is_latent ? own.key_scales : nullptr,
            HAS_SCALES ? own.value_scales : nullptr, found[q]);
    // In the order of the positions: those that only some of the queries see, those that all see, and the rest.
    if (all_high < all_low) all_high = all_low;
    const auto sum_up = [&](auto N, int q, int64_t from, int64_t end) {
      each_run(row, b, kv, from, end, [&](int64_t first, int64_t last, int64_t at) {
        const float* weights[N()];
        for (int i = 0; i < N(); ++i) weights[i] = scores[q + i] + first;
        // What is read POSITIONS_AHEAD later: of this text, or else of the next head or block.
        const int64_t run = last - first, later = std::max(last, first + POSITIONS_AHEAD);
        const T* next = later < end ? values + (key_at(later) - std::max<int64_t>(0, POSITIONS_AHEAD - run) * K) * d
                                    : front + (at + last * K) * d + (kv + 1 < K ? d - run * ld : (BLOCK - end - 1) * ld + d);
        add_all<N()>(values + (at + first * K) * d, ld, run, d, next, weights, to + q);
      });
    };
    for (int q = 0; q < Q; ++q) sum_up(Constant<1>{}, q, lows[q], std::min(all_low, highs[q]));
    sum_up(Constant<Q>{}, 0, all_low, all_high);
    for (int q = 0; q < Q; ++q) sum_up(Constant<1>{}, q, std::max(all_high, lows[q]), highs[q]);
  }

  // Adds the rotated part of latent attention to the products with the latents at positions i and following.
  template <int Q>
  void add_rotated(const float* const* query, const T* key, int64_t count, int64_t i, Floats* to) const {
    Floats some[Q];
    score<Q>(query, key, n.d_key, count, n.d_key, key + POSITIONS_AHEAD * n.d_key, some);
    for (int q = 0; q < Q; ++q)
      to[q] = HAS_SCALES ? to[q] * load(own.value_scales + i) + some[q] * load(own.key_scales + i) : to[q] + some[q];
  }

  static Ints inside(Floats index, int64_t low, int64_t high) { return (index >= float(low)) & (index < float(high)); }

  // Products x of a query with the keys at [low, high) of block b to weights e^(score - largest), 0 where the query sees
  // nothing. key_scales, value_scales: of these positions, or null.
  [[gnu::noinline]] void weigh(const Query& query, int64_t b, float* x, int64_t low, int64_t high, const float* key_scales,
                               const float* value_scales, const Found& found) const {
    const Seen seen(*this, query.row, b);
    const float slope = m.slopes ? m.slopes[query.head] : 0, own_place = float(s.call.places[query.row] - b * BLOCK);
    Floats most = all(-INFINITY), total = {};
    for (int64_t i = low; i < high; i += WIDTH) {
      Floats some = load(x + i) * m.attention_scale;
      const Floats index = counting() + float(i);
      if (key_scales) some *= load(key_scales + i);
      if (m.attention_cap != 0) some = m.attention_cap * hyperbolic_tangent(some / m.attention_cap);
      if (slope != 0) some -= slope * (own_place - index);
      if (i < seen.low || i + WIDTH > seen.high) some = inside(index, seen.low, seen.high) ? some : all(-INFINITY);
      write(x + i, some);
      most = larger(some, most);
    }
    const float largest = maximum(most);
    for (int64_t i = low; i < high; i += WIDTH) {
      Floats e = exponential(load(x + i) - largest);
      if (i < seen.low || i + WIDTH > seen.high) e = inside(counting() + float(i), seen.low, seen.high) ? e : Floats{};
      total += e;
      if (value_scales) {  // a position that is not there has no scale
        const Floats scaled = e * load(value_scales + i);
        e = e == 0.0f ? e : scaled;
      }
      write(x + i, e);
    }
    *found.most = largest;
    *found.total = sum(total);
  }
};
