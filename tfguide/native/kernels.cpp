// What the library exports. Called through ctypes: the structures are those of abi.py, which checks that they are the
// same. The callers in Python check every argument.
#include <pthread.h>

#include <memory>
#include <mutex>
#include <numeric>

#include "abi_text.h"
#include "blocks.h"
#include "rowwise.h"
#include "worker.h"

namespace {

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

// A process may fork while another of its threads computes here. In the child that thread does not exist, and would
// never release the lock: so a fork waits for the lock.
struct ForkSafety {
  ForkSafety() {
    pthread_atfork([] { one_at_a_time.lock(); }, [] { one_at_a_time.unlock(); }, [] { one_at_a_time.unlock(); });
  }
} fork_safety;

constexpr int MOST_READERS = 64;

// Each thread reads its part of the bytes, and adds them up.
struct Reading {
  const char* from;
  int64_t bytes;
  Team& team;
  float total[MOST_READERS * LANES];  // one line of the processor's cache for each

  void run(int id) {
    const Part part(bytes / 4, id, team.size());
    const float* x = reinterpret_cast<const float*>(from);
    Floats acc[8] = {};
    for (int64_t i = part.first; i + 8 * WIDTH <= part.last; i += 8 * WIDTH)
      for (int u = 0; u < 8; ++u) {
        fetch<LITTLE>(x + i + u * WIDTH);
        acc[u] += load(x + i + u * WIDTH);
      }
    for (int u = 1; u < 8; ++u) acc[0] += acc[u];
    total[id * LANES] = sum(acc[0]);
  }
};

template <class J>
void run_on(Team& team, J& job, bool soon = false) {
  team.run([](void* context, int id) { static_cast<J*>(context)->run(id); }, &job, soon);
}

// The parts of a job for each thread, so that a thread that is free earlier takes more of them.
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

#pragma GCC visibility push(default)
extern "C" {

// What abi.py compares with its own description.
const char* tfguide_abi() {
  static const std::string text = abi_text();
  return text.c_str();
}

// The instructions that the kernels were compiled with.
const char* tfguide_isa() { return ISA; }

void tfguide_step(const Model* model, const Call* call, int threads) {
  std::lock_guard<std::mutex> lock(one_at_a_time);
  Team& team = team_of(threads);
  Step step(*model, *call, team, scratch);
  Decoding job{step};
  run_on(team, job, true);  // the product with the head follows
}

void tfguide_linear(const Linear* linear, const float* x, int64_t rows, float* y, int threads) {
  std::lock_guard<std::mutex> lock(one_at_a_time);
  Team& team = team_of(threads);
  Product job(*linear, x, rows, y, team, scratch);
  run_on(team, job, rows <= MAX_ROWS);  // in decoding this is the head, and the next step follows
}

void tfguide_rowwise(const Rowwise* work, int threads) {
  std::lock_guard<std::mutex> lock(one_at_a_time);
  Team& team = team_of(threads);
  share_on(team, [&](int i) { run_rowwise(*work, i, SHARES * team.size()); });
}

void tfguide_unpack(const Linear* linear, void* to, int type, int threads) {
  std::lock_guard<std::mutex> lock(one_at_a_time);
  Team& team = team_of(threads);
  share_on(team, [&](int i) {
    const Part part(linear->out, i, SHARES * team.size());
    with_type(type, [&](auto sample) { unpack(*linear, static_cast<decltype(sample)*>(to), part); });
  });
}

void tfguide_repack(const Linear* to, int type, const void* rows, int threads) {
  std::lock_guard<std::mutex> lock(one_at_a_time);
  Team& team = team_of(threads);
  share_on(team, [&](int i) {
    repack(*to, type, static_cast<const uint8_t*>(rows), Part(to->out, i, SHARES * team.size()));
  });
}

// Reads all the bytes once. The result depends on each of them, so that no compiler can omit the reading.
float tfguide_read(const void* from, int64_t bytes, int threads) {
  std::lock_guard<std::mutex> lock(one_at_a_time);
  Team& team = team_of(std::min(threads, MOST_READERS));
  Reading job{static_cast<const char*>(from), bytes, team, {}};
  run_on(team, job);
  float total = 0;
  for (int id = 0; id < team.size(); ++id) total += job.total[id * LANES];
  return total;
}

// Runs every kind of kernel once, on zeros. compiler.py calls it in a process of its own: where the processor lacks one
// of the instructions, that process ends.
void tfguide_try() {
  constexpr int64_t SIZE = 64, OUT = 37, HEADS = 2, LENGTH = 32;
  static const float zeros[SIZE * SIZE] = {};
  std::vector<float> x(std::max(MAX_ROWS, SIZE) * SIZE), y(x), keys(LENGTH * SIZE), values(keys);
  for (int32_t scaling = PER_OUTPUT; scaling <= SIGNED_BYTES; ++scaling)
    for (const int32_t format : {INT8_A8, INT4_A8, INT4}) {
      if (scaling == PER_OUTPUT && format != INT8_A8) continue;
      const Linear linear{zeros, zeros, zeros, zeros, SIZE, OUT, format, scaling, ACTIVATION_BLOCK};
      for (const int64_t rows : {int64_t(1), int64_t(5), MAX_ROWS}) tfguide_linear(&linear, x.data(), rows, y.data(), 1);
    }
  for (int32_t format = F32_ROWS; format <= INT4_A8; ++format) {
    const int32_t scaling = format == INT4 || format == INT4_A8 ? HALVES : PER_OUTPUT;
    const Linear linear{zeros, zeros, zeros, zeros, SIZE, OUT, format, scaling, ACTIVATION_BLOCK};
    for (const int64_t rows : {int64_t(1), int64_t(5), MAX_ROWS}) tfguide_linear(&linear, x.data(), rows, y.data(), 1);
    for (const int type : {FLOAT32, BFLOAT16, FLOAT16})
      if (format >= INT8) tfguide_unpack(&linear, y.data(), type, 1);
    Layer layer{};
    for (Linear* matrix : {&layer.query, &layer.key, &layer.value, &layer.output, &layer.gate, &layer.up, &layer.down,
                           &layer.key_value_down, &layer.key_value_up})
      *matrix = {zeros, zeros, zeros, zeros, SIZE, SIZE, format, scaling, ACTIVATION_BLOCK};
    layer.attention_norm = layer.feed_forward_norm = layer.key_value_norm = {zeros, zeros};
    Model model{};
    model.n_layers = 1;
    model.d_model = model.d_ff = SIZE;
    model.n_heads = model.n_kv_heads = HEADS;
    model.d_head = model.d_rotary = SIZE / HEADS;
    model.activation = SWIGLU;
    model.eps = model.residual_scale = 1;
    model.embedding = {zeros, zeros, zeros, nullptr, SIZE, SIZE, F32_ROWS, PER_OUTPUT, 0};
    model.layers = &layer;
    constexpr int32_t RANK = ACTIVATION_BLOCK, HALF = SIZE / HEADS / 2;
    Layer of_latent = layer;
    of_latent.key_value_down.out = RANK + HALF;
    of_latent.key_value_up.in = RANK;
    of_latent.output.in = HEADS * HALF;
    Model with_latent = model;
    with_latent.latent = {RANK, HALF, HALF, HALF, 1};
    with_latent.d_rotary = HALF;
    with_latent.layers = &of_latent;
    int64_t zero[LENGTH] = {}, places[LENGTH];
    uint8_t many[LENGTH] = {};
    std::iota(places, places + LENGTH, 0);
    void *const all_keys[] = {keys.data()}, *const all_values[] = {values.data()};
    float* const scales[] = {x.data()};
    for (int32_t type = FLOAT32; type <= INT8_SCALED; ++type) {
      Call call{zero, zero, places, many, LENGTH, LENGTH, LENGTH, nullptr, 1, all_keys, all_values, scales, scales, y.data()};
      call.cos = call.sin = zeros;
      call.cache_type = type;
      model.embedding.format = type <= FLOAT16 ? F32_ROWS + type : INT4;
      model.embedding.scaling = HALVES;
      model.embedding.group = ACTIVATION_BLOCK;
      with_latent.embedding = model.embedding;
      call.page_bits = 5;
      for (const int64_t* tables : {static_cast<const int64_t*>(nullptr), static_cast<const int64_t*>(zero)})
        for (const bool all : {false, true}) {
          call.tables = tables;
          std::fill(many, many + LENGTH, all);
          tfguide_step(&model, &call, 1);
          tfguide_step(&with_latent, &call, 1);
        }
    }
  }
}

}  // extern "C"
#pragma GCC visibility pop
