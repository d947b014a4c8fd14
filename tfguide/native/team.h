// A team of threads that lives as long as the process: a step of decoding is far too short to start threads for it.
#pragma once
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
inline void rest() { _mm_pause(); }
#else
inline void rest() { std::this_thread::yield(); }
#endif

class Team {
 public:
  explicit Team(int size) : size_(size), owner_(getpid()) {
    for (int id = 1; id < size; ++id) threads_.emplace_back([this, id] { serve(id); });
  }

  ~Team() {
    closing_ = true;
    wake();
    for (auto& thread : threads_) thread.join();
  }

  // A forked child has the objects of its parent's threads, not the threads: it must abandon such a team.
  bool is_alive() const { return getpid() == owner_; }
  int size() const { return size_; }

  // Runs job(context, id) on every thread of the team, the caller being number 0, and returns when all are done.
  // `soon`: another job follows in less than a millisecond; the threads stay awake, because waking takes long.
  void run(void (*job)(void*, int), void* context, bool soon) {
    job_ = job;
    context_ = context;
    patience_ = soon ? 20000 : 1000;
    running_.store(size_ - 1, std::memory_order_relaxed);
    wake();
    job(context, 0);
    for (int spins = 0; running_.load(std::memory_order_acquire) > 0; ++spins) pause(spins);
  }

  // Runs job(context, i) for every i below n, each once, on whichever thread is free, and returns when all are done.
  // After a product, the framework's threads still spin on the other cores: `share` does not wait for a thread that
  // gets no core.
  void share(void (*job)(void*, int64_t), void* context, int64_t n) {
    item_ = job;
    context_ = context;
    n_items_.store(n, std::memory_order_relaxed);
    next_item_.store(0, std::memory_order_relaxed);
    patience_ = 1000;
    helpers_.store(0, std::memory_order_release);
    if (size_ > 1) wake(0);
    take_items();
    int none = 0;
    for (int spins = 0; !helpers_.compare_exchange_weak(none, CLOSED, std::memory_order_acq_rel); ++spins, none = 0)
      pause(spins);
  }

  // No thread continues before all have arrived; what each wrote before the barrier, all see after it.
  void barrier() {
    if (size_ == 1) return;
    const int phase = phase_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins) pause(spins);
  }

 private:
  // Where every thread has a core, the wait is short. A thread without a core gets one when another yields its own.
  static void pause(int spins) {
    if (spins < 2000) {
      rest();
    } else {
      sched_yield();
    }
  }

  void wake(unsigned jobs = 1) {
    { std::lock_guard<std::mutex> lock(mutex_); epoch_.fetch_add(jobs, std::memory_order_release); }
    called_.notify_all();
  }

  void take_items() {
    const int64_t n = n_items_.load(std::memory_order_relaxed);
    for (int64_t i; (i = next_item_.fetch_add(1, std::memory_order_relaxed)) < n;) item_(context_, i);
  }

  bool has_items() const { return helpers_ >= 0 && next_item_ < n_items_; }

  // Takes items of a shared job, unless the job is over.
  void help() {
    for (int others = helpers_; others >= 0;)
      if (helpers_.compare_exchange_weak(others, others + 1, std::memory_order_acq_rel)) {
        take_items();
        helpers_.fetch_sub(1, std::memory_order_acq_rel);
        return;
      }
  }

  void serve(int id) {
    for (unsigned seen = 0;;) {
      // After its part a worker stays awake for a while, then it sleeps and leaves its core. The while is short where
      // the framework's own threads need the core next.
      const auto called = [&] { return epoch_.load(std::memory_order_acquire) != seen || has_items(); };
      for (int spins = patience_; !called() && spins > 0; --spins) rest();
      if (!called()) {
        std::unique_lock<std::mutex> lock(mutex_);
        called_.wait(lock, called);
      }
      help();
      if (epoch_.load(std::memory_order_acquire) == seen) continue;
      ++seen;
      if (closing_) return;
      job_(context_, id);
      running_.fetch_sub(1, std::memory_order_release);
    }
  }

  static constexpr int CLOSED = -1;
  const int size_;
  const pid_t owner_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable called_;
  std::atomic<unsigned> epoch_{0};
  std::atomic<int> running_{0}, arrived_{0}, phase_{0};
  std::atomic<int> patience_{0}, helpers_{CLOSED};  // helpers_: threads that are in `share`
  std::atomic<int64_t> next_item_{0}, n_items_{0};
  void (*item_)(void*, int64_t) = nullptr;
  std::atomic<bool> closing_{false};
  void (*job_)(void*, int) = nullptr;
  void* context_ = nullptr;
};
