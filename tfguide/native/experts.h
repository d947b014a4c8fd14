// The router of a mixture of experts: which experts a token goes to, and with which weights. The formulas are those of
// `route` in tfguide/reference.
#pragma once
#include <cmath>
#include <limits>
#include <vector>

#include "abi.h"

// The choices of one row at a time, with the memory that this takes.
class Router {
 public:
  explicit Router(const Experts& experts)
      : e(experts), scores(e.n), choice(e.n), best(e.groups), taken(std::max(e.n, e.groups)) {}

  // The experts of a row x (D), and their weights, k of each.
  void route(const Layer& layer, const float* x, int64_t D, int32_t* chosen, float* weights) {
    score(layer, x, D);
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

  void score(const Layer& layer, const float* x, int64_t D) {
    for (int i = 0; i < e.n; ++i) scores[i] = layer.router_bias ? layer.router_bias[i] : 0.0f;
    for (int64_t d = 0; d < D; ++d)
      for (int i = 0; i < e.n; ++i) scores[i] += x[d] * layer.router[d * e.n + i];
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
