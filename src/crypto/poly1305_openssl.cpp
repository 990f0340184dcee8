#include "crypto/poly1305.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <cstdlib>
#include <memory>

namespace curvegate::crypto {
namespace {

struct Free {
    void operator()(EVP_MAC* mac) const noexcept { ::EVP_MAC_free(mac); }
    void operator()(EVP_MAC_CTX* context) const noexcept { ::EVP_MAC_CTX_free(context); }
};

// One a thread, made once: a new one for each message would cost as much as the message. No configuration
// file is read: the process may be confined already, and what makes a tunnel safe is not to be set there.
// That the library cannot make one means that there is no memory, as for any other allocation.
EVP_MAC_CTX* thread_context() noexcept {
    thread_local const auto context = [] {
        ::OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, nullptr);
        const std::unique_ptr<EVP_MAC, Free> mac(::EVP_MAC_fetch(nullptr, "POLY1305", "provider=default"));
        return std::unique_ptr<EVP_MAC_CTX, Free>(mac ? ::EVP_MAC_CTX_new(mac.get()) : nullptr);
    }();
    if (!context) std::abort();
    return context.get();
}

// None of these calls can fail with a context of this algorithm and a key of 32 bytes; an authenticator
// that was not computed must not be used.
void must(int done) noexcept {
    if (done != 1) std::abort();
}

}  // namespace

Poly1305::Poly1305(FixedBytes<32> key) noexcept : state_(thread_context()) {
    must(::EVP_MAC_init(state_, key.data(), key.size(), nullptr));
}

void Poly1305::update(Bytes part) noexcept {
    must(::EVP_MAC_update(state_, part.data(), part.size()));
}

// It wipes the state, too.
void Poly1305::finish(MutableFixedBytes<kTagSize> tag) noexcept {
    std::size_t size = 0;
    must(::EVP_MAC_final(state_, tag.data(), &size, tag.size()));
}

}  // namespace curvegate::crypto
