#include "crypto/hash.hpp"

#include <sodium.h>

namespace curvegate::crypto {

ByteArray<32> blake2b_256(Bytes bytes) {
    ByteArray<32> out{};
    ::crypto_generichash(out.data(), out.size(), bytes.data(), bytes.size(), nullptr, 0);
    return out;
}

}  // namespace curvegate::crypto
