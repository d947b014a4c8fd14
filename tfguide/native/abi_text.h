// What abi.h declares, as text. abi.py writes the same text and compares it line by line.
#pragma once
#include <cstddef>
#include <initializer_list>
#include <string>
#include <utility>

#include "abi.h"

struct Field { const char* name; size_t offset, size; };
#define FIELD(structure, name) {#name, offsetof(structure, name), sizeof(structure::name)}

inline std::string limit_text(const char* name, int64_t value) {
  return std::string("limit ") + name + ": " + std::to_string(value) + "\n";
}

// Each name in Python's spelling, with its code in C++.
inline std::string codes_text(const char* name, std::initializer_list<std::pair<const char*, int>> codes) {
  std::string text = std::string("codes ") + name + ": " + std::to_string(codes.size());
  for (const auto& [word, code] : codes) text += std::string(", ") + word + " = " + std::to_string(code);
  return text + "\n";
}

inline std::string structure_text(const char* name, size_t size, std::initializer_list<Field> fields) {
  std::string text = std::string("structure ") + name + ": " + std::to_string(size) + " bytes";
  for (const Field& field : fields)
    text += std::string(", ") + field.name + " " + std::to_string(field.offset) + "+" + std::to_string(field.size);
  return text + "\n";
}

inline std::string abi_text() {
  std::string text = limit_text("LANES", LANES) + limit_text("ACTIVATION_BLOCK", ACTIVATION_BLOCK) +
                     limit_text("MAX_ROWS", MAX_ROWS) + limit_text("PASS_ROWS", PASS_ROWS) + limit_text("BLOCK", BLOCK) +
                     limit_text("EXACT_ROWS", EXACT_ROWS) + limit_text("MANY_TOKENS", MANY_TOKENS);
  text += codes_text("Type", {{"float32", FLOAT32}, {"bfloat16", BFLOAT16}, {"float16", FLOAT16}});
  text += codes_text("CacheType", {{"float32", FLOAT32}, {"bfloat16", BFLOAT16}, {"float16", FLOAT16}, {"int8", INT8_SCALED}});
  text += codes_text("Format", {{"float32 rows", F32_ROWS}, {"bfloat16 rows", BF16_ROWS}, {"float16 rows", F16_ROWS},
                                {"float32 columns", F32_COLUMNS}, {"bfloat16 columns", BF16_COLUMNS},
                                {"float16 columns", F16_COLUMNS}, {"int8", INT8}, {"int4", INT4},
                                {"int8 a8", INT8_A8}, {"int4 a8", INT4_A8}});
  text += codes_text("Scaling", {{"per output", PER_OUTPUT}, {"halves", HALVES}, {"halves and minima", HALVES_AND_MINIMA},
                                 {"bytes", BYTES}, {"bytes of blocks", BYTES_OF_BLOCKS}, {"signed bytes", SIGNED_BYTES}});
  text += codes_text("BlockType", {{"Q4_0", Q4_0}, {"Q4_1", Q4_1}, {"Q5_0", Q5_0}, {"Q8_0", Q8_0}, {"Q4_K", Q4_K},
                                   {"Q5_K", Q5_K}, {"Q6_K", Q6_K}});
  text += codes_text("Placement", {{"pre", PRE}, {"post", POST}, {"parallel", PARALLEL}, {"both", BOTH}});
  text += codes_text("Activation", {{"relu", RELU}, {"gelu", GELU}, {"gelu_tanh", GELU_TANH}, {"swiglu", SWIGLU},
                                    {"geglu", GEGLU}, {"geglu_tanh", GEGLU_TANH}});
  text += codes_text("Task", {{"normalise", NORMALISE}, {"activate", ACTIVATE}, {"rotate", ROTATE}});
  text += structure_text("Linear", sizeof(Linear), {
      FIELD(Linear, weight), FIELD(Linear, scale), FIELD(Linear, unit), FIELD(Linear, bias), FIELD(Linear, in),
      FIELD(Linear, out), FIELD(Linear, format), FIELD(Linear, scaling), FIELD(Linear, group)});
  text += structure_text("Norm", sizeof(Norm), {FIELD(Norm, weight), FIELD(Norm, bias)});
  text += structure_text("Layer", sizeof(Layer), {
      FIELD(Layer, attention_norm), FIELD(Layer, feed_forward_norm), FIELD(Layer, attention_post_norm),
      FIELD(Layer, feed_forward_post_norm), FIELD(Layer, query_norm), FIELD(Layer, key_norm),
      FIELD(Layer, key_value_norm), FIELD(Layer, sinks),
      FIELD(Layer, query), FIELD(Layer, key), FIELD(Layer, value), FIELD(Layer, output), FIELD(Layer, gate),
      FIELD(Layer, up), FIELD(Layer, down), FIELD(Layer, query_down), FIELD(Layer, query_up),
      FIELD(Layer, key_value_down), FIELD(Layer, key_value_up), FIELD(Layer, slides),
      FIELD(Layer, router), FIELD(Layer, router_bias),
      FIELD(Layer, correction), FIELD(Layer, experts)});
  text += structure_text("Experts", sizeof(Experts), {
      FIELD(Experts, n), FIELD(Experts, per_token), FIELD(Experts, groups), FIELD(Experts, groups_per_token),
      FIELD(Experts, is_sigmoid), FIELD(Experts, is_normalised), FIELD(Experts, scale), FIELD(Experts, clamp)});
  text += structure_text("Latent", sizeof(Latent), {
      FIELD(Latent, kv_rank), FIELD(Latent, d_nope), FIELD(Latent, d_rope), FIELD(Latent, d_value), FIELD(Latent, eps)});
  text += structure_text("Model", sizeof(Model), {
      FIELD(Model, n_layers), FIELD(Model, d_model), FIELD(Model, n_heads), FIELD(Model, n_kv_heads),
      FIELD(Model, d_head), FIELD(Model, d_rotary), FIELD(Model, d_ff), FIELD(Model, is_rms), FIELD(Model, placement),
      FIELD(Model, activation), FIELD(Model, window), FIELD(Model, eps),
      FIELD(Model, embedding_scale), FIELD(Model, attention_scale), FIELD(Model, attention_cap),
      FIELD(Model, residual_scale), FIELD(Model, embedding), FIELD(Model, added),
      FIELD(Model, slopes), FIELD(Model, embedding_norm), FIELD(Model, final_norm), FIELD(Model, layers),
      FIELD(Model, experts), FIELD(Model, latent)});
  text += structure_text("Call", sizeof(Call), {
      FIELD(Call, tokens), FIELD(Call, texts), FIELD(Call, places), FIELD(Call, many), FIELD(Call, rows),
      FIELD(Call, max_length), FIELD(Call, ring), FIELD(Call, tables), FIELD(Call, n_pages), FIELD(Call, keys), FIELD(Call, values),
      FIELD(Call, key_scales), FIELD(Call, value_scales), FIELD(Call, hidden),
      FIELD(Call, positions), FIELD(Call, cos), FIELD(Call, sin),
      FIELD(Call, local_cos), FIELD(Call, local_sin), FIELD(Call, experts_read), FIELD(Call, cache_type), FIELD(Call, by_row),
      FIELD(Call, page_bits)});
  text += structure_text("Rowwise", sizeof(Rowwise), {
      FIELD(Rowwise, x), FIELD(Rowwise, other), FIELD(Rowwise, y), FIELD(Rowwise, norm), FIELD(Rowwise, cos),
      FIELD(Rowwise, sin), FIELD(Rowwise, rows), FIELD(Rowwise, width), FIELD(Rowwise, head), FIELD(Rowwise, rotated), FIELD(Rowwise, task),
      FIELD(Rowwise, type), FIELD(Rowwise, activation), FIELD(Rowwise, is_rms), FIELD(Rowwise, eps)});
  return text;
}
#undef FIELD
