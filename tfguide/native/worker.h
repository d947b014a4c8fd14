// One thread's part of a decoding step: embedding, blocks, cache and final norm, for a few new tokens of each row. The
// formulas are those of tfguide/reference; what is added is where the bytes lie and which thread reads them.
// Activations are float32, but for what products round (see inputs.h).
#pragma once
#include "attention.h"
#include "latent.h"
#include "products.h"
#include "unpack.h"

inline void normalise(const Model& m, const Norm& norm, const float* x, float* y) {
  normalise(norm, m.d_model, m.is_rms, m.eps, x, y, 0, m.d_model);
}

class Worker : private Products {
 public:
  Worker(Step& step, int id) : Products(step, id), router(m.experts) {}

  void run() {
    embed();
    for (int l = 0; l < m.n_layers; ++l) block(m.layers[l], l);
    if (m.final_norm.weight) each_row([&](int64_t r) { normalise(m, m.final_norm, x(r), x(r)); });
    each_row([&](int64_t r) { std::memcpy(s.call.hidden + r * m.d_model, x(r), m.d_model * sizeof(float)); });
  }

 private:
  Router router;

  float* x(int64_t r) { return s.x + r * m.d_model; }

  void embed() {
    each_row([&](int64_t r) {
      const int64_t D = m.d_model;
      weights_of(m.embedding, s.call.tokens[r], x(r));
      for (int64_t i = 0; i < D; ++i) x(r)[i] *= m.embedding_scale;
      for (int64_t i = 0; s.call.positions && i < D; ++i) x(r)[i] += s.call.positions[s.call.places[r] * D + i];
      for (int64_t i = 0; m.added && i < D; ++i) x(r)[i] += m.added[i];
      if (m.embedding_norm.weight) normalise(m, m.embedding_norm, x(r), x(r));
    });
  }

  void block(const Layer& layer, int index) {
    const float* input = normalised(layer.attention_norm);
    attention(layer, index, input);
    if (m.placement == POST) after(layer.attention_norm);
    // Parallel: both sublayers read the same h, which belongs to this thread and has not changed.
    if (m.placement != PARALLEL) input = normalised(layer.feed_forward_norm);
    feed_forward(layer, index, input);
    if (m.placement == POST) after(layer.feed_forward_norm);
  }

  // What a sublayer reads.
  const float* normalised(const Norm& norm) {
    if (m.placement == POST) return s.x;
    const Part part = own_inputs(m.d_model);
    for (int64_t r = 0; r < s.rows; ++r)
      normalise(norm, m.d_model, m.is_rms, m.eps, x(r), h + r * m.d_model, part.first, part.last);
    return h;
  }

  void after(const Norm& norm) {
    each_row([&](int64_t r) { normalise(m, norm, x(r), x(r)); });
  }

  // Adds the output of a sublayer, its last product, to x.
  void add(const Linear& w, const Input& input, const Norm& post_norm) {
    multiply(w, input, s.sets_aside() ? s.aside : s.x, !s.sets_aside());
    s.team.barrier();
    if (!s.sets_aside()) return;
    each_row([&](int64_t r) {
      float* from = s.aside + r * m.d_model;
      if (post_norm.weight) normalise(m, post_norm, from, from);
      for (int64_t i = 0; i < m.d_model; ++i) x(r)[i] += m.residual_scale * from[i];
    });
  }

  void attention(const Layer& layer, int index, const float* from) {
    s.shape.is_latent ? project_latent(layer, from) : project(layer, from);
    const bool scaled = s.call.cache_type == INT8_SCALED;
    const auto attend_to = [&](auto type) {
      using T = decltype(type);
      attend(Attention<T>{s, m, layer, s.plans[layer.slides],
                          static_cast<T*>(s.call.keys[index]), static_cast<T*>(s.call.values[index]),
                          scaled ? s.call.key_scales[index] : nullptr, scaled ? s.call.value_scales[index] : nullptr,
                          AttentionMemory(for_attention)});
    };
    scaled ? attend_to(int8_t{}) : with_type(s.call.cache_type, attend_to);
    s.team.barrier();
    if (s.shape.is_latent) {
      LatentHeads{s, layer, id, size, for_attention}.project();
      s.team.barrier();
    }
    add(layer.output, prepared(layer.output, s.heads), layer.attention_post_norm);
  }

  void project(const Layer& layer, const float* from) {
    Input input = prepared(layer.query, from);
    multiply(layer.query, input, s.q, false);
    multiply(layer.key, prepared_again(layer.key, layer.query, input), s.k, false);
    multiply(layer.value, prepared_again(layer.value, layer.key, input), s.v, false);
    s.team.barrier();
  }

  // Queries and latents, and the queries as they meet the latents: see LatentHeads.
  void project_latent(const Layer& layer, const float* from) {
    const bool narrows = layer.query_down.weight != nullptr;
    const Linear& first = narrows ? layer.query_down : layer.query;
    Input input = prepared(first, from);
    multiply(first, input, narrows ? s.narrow : s.raw, false);
    multiply(layer.key_value_down, prepared_again(layer.key_value_down, first, input), s.k, false);
    s.team.barrier();
    if (narrows) {
      each_row([&](int64_t r) {
        float* row = s.narrow + r * first.out;
        normalise(layer.query_norm, first.out, true, m.latent.eps, row, row, 0, first.out);
      });
      multiply(layer.query_up, prepared(layer.query_up, s.narrow), s.raw, false);
      s.team.barrier();
    }
    LatentHeads{s, layer, id, size, for_attention}.absorb();
  }

  template <class T>
  void attend(Attention<T> cache) {
    const int64_t K = s.shape.kv, units = s.rows * K;
    for (int64_t u = units * id / size; u < units * (id + 1) / size; ++u) cache.append(u / K, u % K);
    s.team.barrier();
    cache.attend(id, size);
    s.team.barrier();
    cache.finish(id, size);
  }

  void feed_forward(const Layer& layer, int index, const float* from) {
    if (layer.router) return mixture(layer, index, from);
    Input input = prepared(layer.up, from);
    features(layer.gate, layer.up, input, 0, 0);
    s.team.barrier();
    add(layer.down, prepared(layer.down, s.up), layer.feed_forward_post_norm);
  }

  // This thread's part of the hidden features of a network: f(from up), or f(from gate) (from up). at: where those of the
  // network begin, up and gate alike: another thread may be at another network, whose parts lie elsewhere. clamp: see
  // Experts.
  void features(const Linear& gate_of, const Linear& up_of, Input& input, int64_t at, float clamp) {
    const int64_t F = up_of.out;
    const bool gated = gate_of.weight != nullptr;
    multiply(up_of, input, s.up + at, false);
    if (gated) multiply(gate_of, prepared_again(gate_of, up_of, input), s.gate + at, false);
    const Part part(F, id, size);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t o = part.first; o < part.last; o += WIDTH) {
        float *up = s.up + at + r * F + o, *gate = gated ? s.gate + at + r * F + o : up;
        const int64_t n = std::min<int64_t>(WIDTH, part.last - o);
        Floats a = {}, b = all(1.0f);
        std::memcpy(&a, gate, n * sizeof(float));
        if (gated) std::memcpy(&b, up, n * sizeof(float));
        a = clamp > 0 ? clamped(a, b, clamp) : activated(m.activation, a) * b;
        std::memcpy(up, &a, n * sizeof(float));
      }
  }

  static Floats clamped(Floats gate, Floats up, float clamp) {
    gate = gate > clamp ? all(clamp) : gate;
    up = up > clamp ? all(clamp) : up < -clamp ? all(-clamp) : up;
    return gate * sigmoid(1.702f * gate) * (up + 1.0f);
  }

  // Each expert reads its matrices once, for all the rows that chose it; those that no row chose are not read. All
  // networks compute their hidden features before one of them adds to x: so the threads wait for each other as rarely
  // as in a layer with one network.
  void mixture(const Layer& layer, int index, const float* from) {
    const int64_t D = m.d_model;
    const Part part(D, id, size);  // of the outputs: this thread adds up no others
    MixtureMemory memory(s.many ? s.mixture : h + s.normed, s.mixtures, D);
    choose(layer, from, memory);
    const Choices choices(layer, m.experts, s.rows, memory.chosen, memory.weights);
    const float* inputs = gathered(choices, from, memory.gathered);

    with_inputs(choices, &Network::up, inputs, [&](const Network& network, Input& input) {
      features(*network.gate, *network.up, input, network.hidden, m.experts.clamp);
      if (id == 0 && s.call.experts_read && !network.is_shared) ++s.call.experts_read[index];
    });
    s.team.barrier();
    for (int64_t r = 0; r < s.rows; ++r) std::fill(s.mixed + r * D + part.first, s.mixed + r * D + part.last, 0.0f);
    with_inputs(choices, &Network::down, s.up, [&](const Network& network, Input& input) {
      multiply(*network.down, input, s.added, false);
      for (int64_t i = 0; i < rows; ++i) {
        float* to = s.mixed + choices.row[network.first + i] * D;
        const float weight = choices.weight[network.first + i];
        for (int64_t o = part.first; o < part.last; ++o) to[o] += weight * s.added[i * D + o];
      }
    });
    if (layer.feed_forward_post_norm.weight) {
      s.team.barrier();
      return each_row([&](int64_t r) {
        float* to = s.mixed + r * D;
        normalise(m, layer.feed_forward_post_norm, to, to);
        for (int64_t i = 0; i < D; ++i) x(r)[i] += m.residual_scale * to[i];
      });
    }
    for (int64_t r = 0; r < s.rows; ++r)
      for (int64_t o = part.first; o < part.last; ++o) x(r)[o] += m.residual_scale * s.mixed[r * D + o];
    s.team.barrier();
  }

  // The experts of all rows. Whatever the number of rows, each is multiplied with the router alone, so that its choice
  // does not depend on the others.
  void choose(const Layer& layer, const float* from, MixtureMemory& memory) {
    const int64_t D = m.d_model, n = m.experts.n, k = m.experts.per_token, products = s.rows * n;
    if (s.many) s.team.barrier();  // the rows are normalised by all threads
    for (int64_t i = products * id / size; i < products * (id + 1) / size; ++i) {
      const float* row = from + i / n * D;
      s.logits[i] = dot_row(layer.router + i % n * D, D, row, row);
    }
    s.team.barrier();
    const auto act = [&](int64_t r) { router.choose(layer, s.logits + r * n, memory.chosen + r * k, memory.weights + r * k); };
    if (s.many) return each_row(act);
    for (int64_t r = 0; r < s.rows; ++r) act(r);
  }

  // The inputs of all choices, side by side. Each thread copies what it prepares for the first products.
  const float* gathered(const Choices& choices, const float* from, float* to) {
    const int64_t D = m.d_model;
    const Part part = own_inputs(D);
    for (size_t i = 0; i < choices.row.size(); ++i) copy(from + choices.row[i] * D, to + i * D, part);
    return to;
  }

  // Calls act(network, input) for each network, once the inputs of one of its matrices are prepared for all networks.
  template <class F>
  void with_inputs(const Choices& choices, const Linear* Network::*matrix, const float* from, F&& act) {
    std::vector<Input> inputs;
    char* at = static_cast<char*>(for_input);
    for (const Network& network : choices.networks) {
      const Linear& w = *(network.*matrix);
      inputs.emplace_back(w, from, network.rows, at).prepare(w, own_inputs(w.in));
      from += network.rows * w.in;
      at += padded(Input::bytes(network.rows, w.in), 64);
    }
    if (s.many) s.team.barrier();
    for (size_t i = 0; i < inputs.size(); ++i) {
      rows = choices.networks[i].rows;
      act(choices.networks[i], inputs[i]);
    }
    rows = s.rows;
  }

  static void copy(const float* from, float* to, Part part) {
    std::memcpy(to + part.first, from + part.first, (part.last - part.first) * sizeof(float));
  }
};
