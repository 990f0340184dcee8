#pragma once

#include "base/result.hpp"
#include "crypto/keys.hpp"
#include "crypto/secret.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace curvegate::vault {

/// The shared keys of one long-term key with the peers that were good last, so that a known peer costs no
/// Diffie-Hellman. Only keep() adds, so only peers that proved themselves push others out.
class SharedKeys {
  public:
    explicit SharedKeys(std::size_t limit) : limit_(limit) { entries_.reserve(limit); }

    /// Returns nullptr if it is not kept. The pointer is valid until the next keep().
    [[nodiscard]] const crypto::SharedKey* find(const crypto::PublicKey& peer) {
        const auto found = std::ranges::find(entries_, peer, &Entry::peer);
        if (found == entries_.end()) return nullptr;
        found->used = ++clock_;
        return &found->key;
    }
    /// Keeps a key that find() does not know, in the place of the one not used for longest.
    void keep(const crypto::PublicKey& peer, crypto::SharedKey key) {
        if (entries_.size() < limit_) {
            entries_.push_back({peer, std::move(key), ++clock_});
            return;
        }
        *std::ranges::min_element(entries_, {}, &Entry::used) = {peer, std::move(key), ++clock_};
    }
    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }

  private:
    struct Entry {
        crypto::PublicKey peer;
        crypto::SharedKey key;
        std::uint64_t used;
    };
    std::size_t limit_;
    std::uint64_t clock_ = 0;
    std::vector<Entry> entries_;
};

}  // namespace curvegate::vault
