#pragma once

#include "base/result.hpp"
#include "crypto/keys.hpp"
#include "crypto/secret.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace curvegate::vault {

/// The shared keys of one long-term key with the peers that were good last, so that a known peer costs no
/// Diffie-Hellman. Anybody can make a key and prove that it is his; so a peer that known_hosts does not list
/// never takes the place of one that it does.
class SharedKeys {
  public:
    enum class Peer { listed, stranger };

    explicit SharedKeys(std::size_t limit) : limit_(limit) { entries_.reserve(limit); }

    /// Returns nullptr if it is not kept. The pointer is valid until the next keep().
    [[nodiscard]] const crypto::SharedKey* find(const crypto::PublicKey& peer) {
        const auto found = std::ranges::find(entries_, peer, &Entry::peer);
        if (found == entries_.end()) return nullptr;
        found->used = ++clock_;
        return &found->key;
    }
    /// Keeps a key that find() does not know, in the place of the stranger's that was not used for longest;
    /// if there is none, and only for a listed peer, in that of the listed peer's that was not.
    void keep(const crypto::PublicKey& peer, crypto::SharedKey key, Peer kind) {
        Entry entry{peer, std::move(key), kind == Peer::listed, ++clock_};
        if (entries_.size() < limit_) {
            entries_.push_back(std::move(entry));
            return;
        }
        const auto order = [](const Entry& one) { return std::pair(one.listed, one.used); };
        auto last = std::ranges::min_element(entries_, {}, order);
        if (entry.listed || !last->listed) *last = std::move(entry);
    }
    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }

  private:
    struct Entry {
        crypto::PublicKey peer;
        crypto::SharedKey key;
        bool listed;
        std::uint64_t used;
    };
    std::size_t limit_;
    std::uint64_t clock_ = 0;
    std::vector<Entry> entries_;
};

}  // namespace curvegate::vault
