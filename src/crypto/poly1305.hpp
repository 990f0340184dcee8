#pragma once

#include "base/bytes.hpp"

#include <sodium.h>

struct evp_mac_ctx_st;

namespace curvegate::crypto {

/// Poly1305 (RFC 8439, 2.5) over a text that comes in parts, under a key of 32 bytes that serves once. A
/// build with OpenSSL takes it from there (poly1305_openssl.cpp: three times as fast where the processor
/// has AVX-512), one without from libsodium. At most one lives at a time in a thread.
class Poly1305 {
  public:
    static constexpr std::size_t kTagSize = 16;

    explicit Poly1305(FixedBytes<32> key) noexcept;
    Poly1305(const Poly1305&) = delete;
    Poly1305& operator=(const Poly1305&) = delete;

    void update(Bytes part) noexcept;
    /// Call once, last: it wipes what it held.
    void finish(MutableFixedBytes<kTagSize> tag) noexcept;

  private:
#ifdef CURVEGATE_OPENSSL
    evp_mac_ctx_st* state_;  // the thread's
#else
    crypto_onetimeauth_state state_;
#endif
};

}  // namespace curvegate::crypto
