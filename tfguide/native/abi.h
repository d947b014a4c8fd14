// What Python and C++ share: limits, codes and structures. abi.py declares the same, under the same names and in the
// same order. abi_text.h reports how this compiler lays them out; abi.py compares when it loads the library.
#pragma once
#include <cstdint>

#include "vectors.h"

// ---- limits; LANES is in vectors.h

constexpr int64_t MAX_ROWS = 64;    // rows of a decoding step; more rows are a prompt
constexpr int64_t PASS_ROWS = 128;  // rows of a prompt that pass through the kernels together
constexpr int64_t BLOCK = 512;       // positions of a text that a query looks at together
constexpr int64_t EXACT_ROWS = 4;    // more rows are rounded to bfloat16 where the processor multiplies bfloat16 by it
constexpr int64_t MANY_TOKENS = 8;    // new tokens of a text from which on the blocks of its cache are arranged for them
constexpr int ACTIVATION_BLOCK = 32;  // inputs that share a scale of 8-bit activations

// ---- codes

enum Type { FLOAT32, BFLOAT16, FLOAT16 };
enum CacheType { INT8_SCALED = FLOAT16 + 1 };  // the types above, and 8-bit integers with a scale for each head

// The memory layout of a matrix. ROWS: (out, in), as in PyTorch. COLUMNS: (in, out), as in Keras.
// INT8 and INT4: `tfguide.compress.packing`. A8: the rows x are also rounded to 8 bits, in blocks of 32.
enum Format { F32_ROWS, BF16_ROWS, F16_ROWS, F32_COLUMNS, BF16_COLUMNS, F16_COLUMNS, INT8, INT4, INT8_A8, INT4_A8 };
// The scales of INT8 and INT4. PER_OUTPUT: a float32 for each output. All others belong to `group` inputs of an output,
// and lie (out / 16, in / group, ..., 16). HALVES: a float16. HALVES_AND_MINIMA: two, step and minimum. BYTES: two bytes,
// in units that `unit` has for each output, float16 (2, outputs); BYTES_OF_BLOCKS, in units of 256 inputs, float16
// (out / 16, in / 256, 2, 16); SIGNED_BYTES: one byte, and one unit for 256 inputs.
enum Scaling { PER_OUTPUT, HALVES, HALVES_AND_MINIMA, BYTES, BYTES_OF_BLOCKS, SIGNED_BYTES };
enum BlockType { Q4_0, Q4_1, Q5_0, Q8_0, Q4_K, Q5_K, Q6_K };  // of GGUF files, which `repack` turns into INT4 and INT8
enum Placement { PRE, POST, PARALLEL, BOTH };
enum Activation { RELU, GELU, GELU_TANH, SWIGLU, GEGLU, GEGLU_TANH };
enum Task { NORMALISE, ACTIVATE, ROTATE };

// ---- structures

struct Linear {
  const void* weight;
  const void* scale;  // of INT8 and INT4: see Scaling
  const void* unit;   // of scales that are bytes
  const float* bias;  // or null
  int64_t in, out;
  int32_t format, scaling, group;
};

struct Norm { const float *weight, *bias; };  // null weight: no norm

struct Layer {
  Norm attention_norm, feed_forward_norm;
  Norm attention_post_norm, feed_forward_post_norm;  // of what the sublayers add
  Norm query_norm, key_norm;                         // (d), of each head; see Latent
  Norm key_value_norm;                               // see Latent
  const float* sinks;                                // (H), scores that have no value, or null
  Linear query, key, value, output, gate, up, down;
  Linear query_down, query_up, key_value_down, key_value_up;  // see Latent
  int32_t slides;  // whether it sees the window only, and its heads are rotated by the local angles
  // Of a mixture of experts, whose shared ones are the network above, or null: (n, D), (n), and (n), added for the choice.
  const float *router, *router_bias, *correction;
  const Linear* experts;  // gate, up and down of each
};

// The mixtures of a model; n: 0 for none. clamp: of gpt-oss's gates, 0 for others.
struct Experts {
  int32_t n, per_token, groups, groups_per_token, is_sigmoid, is_normalised;
  float scale, clamp;
};

// Latent attention; kv_rank: 0 for none. A position keeps `kv_rank` numbers, the latent, and `d_rope` more, the rotated
// part of the keys: `key_value_down` makes both, `key_value_norm` normalises the latent. `key_value_up` would make from a
// latent, for each head, `d_nope` features of a key and `d_value` of a value. `query`, or `query_up` from the vector that
// `query_down` makes and `query_norm` normalises, gives queries of `d_nope` + `d_rope` features. eps: of both norms.
struct Latent {
  int32_t kv_rank, d_nope, d_rope, d_value;
  float eps;
};

struct Model {
  int32_t n_layers, d_model, n_heads, n_kv_heads, d_head, d_rotary, d_ff;  // d_rotary: of d_head are rotated
  int32_t is_rms, placement, activation, window;  // window: 0 for none
  float eps, embedding_scale, attention_scale, attention_cap, residual_scale;  // attention_cap: 0 for none
  Linear embedding;       // its outputs are the tokens: in ROWS or packed
  const float* added;     // (D), added to every token, or null
  const float* slopes;    // (H), ALiBi, or null
  Norm embedding_norm, final_norm;
  const Layer* layers;
  Experts experts;
  Latent latent;
};

// What changes between calls, and all memory that a call may write: several threads may use one model. The rows are new
// tokens of any texts, at any places; those of one text are in order, and each finds all before it in the cache or here.
struct Call {
  const int64_t *tokens, *texts, *places;  // (rows): the token, the row of the cache, the position in it
  const uint8_t* many;  // (rows): whether this row is one of MANY_TOKENS new tokens of its text, in this call and others
  int64_t rows, max_length, ring;  // ring: the slots of a layer with a window
  const int64_t* tables;  // (texts, n_pages), the pages of each text, in the order of its positions, or null
  int64_t n_pages;
  void *const *keys, *const *values;  // L caches (B, slots, K, d), or with K = 1 the rotated parts, the latents
  float *const *key_scales, *const *value_scales;  // (B, slots, K) each, of an 8-bit cache
  float* hidden;                                 // (rows, D), the result
  const float* positions;                        // (max_length, D), added by position, or null
  const float *cos, *sin;                        // (max_length, r / 2) for r rotated features, or null
  const float *local_cos, *local_sin;            // those of the layers with a window
  int64_t* experts_read;                         // (L), to which the experts are added that a layer reads, or null
  int32_t cache_type, by_row;  // by_row: whether the angles are (rows, r / 2), for the rows of this call
  int32_t page_bits;           // a page has 2^page_bits slots, 16 to BLOCK; a text without pages has max_length or ring
};

// One task on each row: x (rows, width) to y. NORMALISE: width is D. ACTIVATE: y = activation(x) * other, or without
// other. ROTATE: width is H d; the first r numbers of the heads are rotated by their row's angles, cos and sin (rows, r / 2).
struct Rowwise {
  const void *x, *other;
  void* y;
  Norm norm;
  const float *cos, *sin;
  int64_t rows, width, head, rotated;
  int32_t task, type, activation, is_rms;
  float eps;
};
