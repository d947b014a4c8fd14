// The kernels in a process of their own, perhaps of another processor. remote.py writes each call to the standard input:
// its number, its arguments, a copy of all memory that it reads and writes, and where in it the addresses lie. The
// answer is the result and this memory after the call.
#include "kernels.cpp"

#include <cstdio>
#include <cstdlib>

namespace {

void read_all(void* to, size_t bytes) {
  if (std::fread(to, 1, bytes, stdin) != bytes) std::exit(bytes ? 1 : 0);
}

// The functions in the order of FUNCTIONS in abi.py, except the two that return a text.
float run(const std::string& name, const int64_t* a) {
  const auto at = [&](int i) { return reinterpret_cast<void*>(a[i]); };
  if (name == "tfguide_try") tfguide_try();
  if (name == "tfguide_step") tfguide_step((const Model*)at(0), (const Call*)at(1), int(a[2]));
  if (name == "tfguide_linear") tfguide_linear((const Linear*)at(0), (const float*)at(1), a[2], (float*)at(3), int(a[4]));
  if (name == "tfguide_rowwise") tfguide_rowwise((const Rowwise*)at(0), int(a[1]));
  if (name == "tfguide_unpack") tfguide_unpack((const Linear*)at(0), at(1), int(a[2]), int(a[3]));
  if (name == "tfguide_repack") tfguide_repack((const Linear*)at(0), int(a[1]), at(2), int(a[3]));
  if (name == "tfguide_read") return tfguide_read(at(0), a[1], int(a[2]));
  return 0;
}

}  // namespace

int main(int n, char** words) {
  if (n > 1) {
    std::fputs(std::string(words[1]) == "isa" ? tfguide_isa() : tfguide_abi(), stdout);
    return 0;
  }
  for (;;) {
    struct { char name[32]; int64_t arguments[8], is_address[8], addresses, bytes; } call;
    if (std::fread(&call, sizeof call, 1, stdin) != 1) return 0;
    std::vector<int64_t> addresses(call.addresses);
    read_all(addresses.data(), 8 * addresses.size());
    char* memory = static_cast<char*>(std::aligned_alloc(64, (call.bytes + 63) / 64 * 64));
    read_all(memory, call.bytes);
    const int64_t start = reinterpret_cast<int64_t>(memory);
    for (const int64_t at : addresses) *reinterpret_cast<int64_t*>(memory + at) += start;
    for (int i = 0; i < 8; ++i)
      if (call.is_address[i]) call.arguments[i] += start;
    const float result = run(call.name, call.arguments);
    std::fwrite(&result, sizeof result, 1, stdout);
    std::fwrite(memory, 1, call.bytes, stdout);
    std::fflush(stdout);
    std::free(memory);
  }
}
