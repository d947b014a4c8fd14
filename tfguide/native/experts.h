// The router of a mixture of experts: which experts a token goes to, and with which weights. The formulas are those of
// `route` in tfguide/reference. And the networks that a call reads, with their rows.
#pragma once
#include <cmath>
#include <limits>
#include <vector>

#include "inputs.h"

// A network of a mixture, which some rows chose. They are its part of the choices, whose inputs lie side by side.
struct Network {
  const Linear *gate, *up, *down;
  int64_t first, rows;  // of the choices
  int64_t hidden;       // where its hidden features begin
  bool is_shared;
};

// The choices of all rows by network, the shared one first. A network that no row chose is not among them.
struct Choices {
  std::vector<Network> networks;
  std::vector<int64_t> row;  // of each choice
  std::vector<float> weight;

  // chosen, weights: (rows, k).
  Choices(const Layer& layer, const Experts& e, int64_t rows, const int32_t* chosen, const float* weights) {
    const int64_t n = rows * e.per_token, shared = layer.up.weight ? rows : 0;
    std::vector<int64_t> end(e.n + 1);
    for (int64_t c = 0; c < n; ++c) ++end[chosen[c] + 1];
    end[0] = shared;
    for (int i = 0; i < e.n; ++i) end[i + 1] += end[i];
    row.resize(shared + n);
    weight.resize(shared + n, 1.0f);
    for (int64_t r = 0; r < shared; ++r) row[r] = r;
    for (int64_t c = 0; c < n; ++c) {
      const int64_t at = end[chosen[c]]++;  // now the place of the next choice of this expert
      row[at] = c / e.per_token;
      weight[at] = weights[c];
    }
    if (shared) add(layer.gate, layer.up, layer.down, 0, shared, true);
    for (int i = 0; i < e.n; ++i) {
      const Linear* own = layer.experts + 3 * i;
      add(own[0], own[1], own[2], i ? end[i - 1] : shared, end[i], false);
    }
  }

 private:
  int64_t hidden = 0;

  void add(const Linear& gate, const Linear& up, const Linear& down, int64_t first, int64_t last, bool is_shared) {
    if (first == last) return;
    networks.push_back({&gate, &up, &down, first, last - first, hidden, is_shared});
    hidden += (last - first) * up.out;
  }
};

// What the mixtures of a model need for some rows.
struct MixtureSizes {
  int64_t choices = 0;   // of all rows, the network of the shared experts among them
  int64_t features = 0;  // the hidden ones of all networks of a row
  int64_t prepared = 0;  // bytes of the inputs of all networks, prepared for a product

  MixtureSizes(const Model& m, int64_t rows) {
    for (const Layer* l = m.layers; l < m.layers + m.n_layers; ++l) {
      if (!l->router) continue;
      const int64_t own = l->experts[1].out, k = m.experts.per_token, n = rows * (k + (l->up.weight ? 1 : 0));
      const int64_t networks = std::min<int64_t>(n, m.experts.n + 1), widest = std::max({own, l->up.out, l->experts[1].in});
      choices = std::max(choices, n);
      features = std::max(features, l->up.out + k * own);
      prepared = std::max(prepared, padded(Input::bytes(n, widest), 64) + networks * 128);
    }
  }

  int64_t numbers(int64_t D) const { return padded(choices * D, LANES) + 2 * padded(choices, LANES); }
};

// The inputs of the networks side by side (choices, D); and the experts of each row, with their weights.
struct MixtureMemory {
  float *gathered, *weights;
  int32_t* chosen;

  MixtureMemory(float* at, const MixtureSizes& sizes, int64_t D)
      : gathered(at), weights(at + padded(sizes.choices * D, LANES)),
        chosen(reinterpret_cast<int32_t*>(weights + padded(sizes.choices, LANES))) {}
};

// The choices of one row at a time, with the memory that this takes.
class Router {
 public:
  explicit Router(const Experts& experts)
      : e(experts), scores(e.n), choice(e.n), best(e.groups), taken(std::max(e.n, e.groups)) {}

  // The experts of a row by the router's numbers (n), and their weights, k of each.
  void choose(const Layer& layer, const float* logits, int32_t* chosen, float* weights) {
    score(layer, logits);
    for (int i = 0; i < e.n; ++i) choice[i] = scores[i] + (layer.correction ? layer.correction[i] : 0.0f);
    if (e.groups > 1) leave_groups();
    pick(choice, e.n, e.per_token, [&](int k, int i) { chosen[k] = i; });
    float total = 0;
    for (int k = 0; k < e.per_token; ++k) total += weights[k] = scores[chosen[k]];
    const float factor = e.scale / (e.is_normalised ? total + 1e-20f : 1.0f);
    for (int k = 0; k < e.per_token; ++k) weights[k] *= factor;
  }

 private:
  const Experts& e;
  std::vector<float> scores, choice, best;
  std::vector<char> taken;

  void score(const Layer& layer, const float* logits) {
    for (int i = 0; i < e.n; ++i) scores[i] = logits[i] + (layer.router_bias ? layer.router_bias[i] : 0.0f);
    if (e.is_sigmoid) {
      for (float& score : scores) score = 1.0f / (1.0f + std::exp(-score));
      return;
    }
    float most = scores[0], total = 0;
    for (float score : scores) most = std::max(most, score);
    for (float& score : scores) total += score = std::exp(score - most);
    for (float& score : scores) score /= total;
  }

  // Leaves the groups whose two best experts have the largest sums, and makes all others the last choice.
  void leave_groups() {
    const int each = e.n / e.groups;
    for (int g = 0; g < e.groups; ++g) {
      float first = -std::numeric_limits<float>::infinity(), second = first;
      for (int i = g * each; i < (g + 1) * each; ++i) {
        second = std::max(second, std::min(first, choice[i]));
        first = std::max(first, choice[i]);
      }
      best[g] = first + second;
    }
    pick(best, e.groups, e.groups_per_token, [](int, int) {});
    for (int i = 0; i < e.n; ++i)
      if (!taken[i / each]) choice[i] = -std::numeric_limits<float>::infinity();
  }

  // Takes the k largest of n numbers, of equal ones the first: act(order, place).
  template <class F>
  void pick(const std::vector<float>& from, int n, int k, F&& act) {
    std::fill(taken.begin(), taken.end(), 0);
    for (int turn = 0; turn < k; ++turn) {
      int largest = -1;
      for (int i = 0; i < n; ++i)
        if (!taken[i] && (largest < 0 || from[i] > from[largest])) largest = i;
      taken[largest] = 1;
      act(turn, largest);
    }
  }
};
