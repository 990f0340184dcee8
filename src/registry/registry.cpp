#include "registry/registry.hpp"

#include <algorithm>

namespace curvegate::registry {
namespace {

bool is_expired(const Entry& entry, WallTime now) noexcept {
    return entry.valid_until && now >= *entry.valid_until;
}

bool holds(const Entry& entry, const IpAddress& source) {
    return entry.from.empty() ||
           std::ranges::any_of(entry.from, [&](const IpBlock& block) { return block.contains(source); });
}

/// How one line decides. The verdicts stand in the order of the checks, so the greater of two came further.
Decision decide(const Entry& entry, const AllowList& allow, const IpAddress& source, WallTime now) {
    const auto named = std::ranges::find_first_of(entry.names, allow.names);
    if (named == entry.names.end()) return {Verdict::not_named, entry.names.front()};
    if (!holds(entry, source)) return {Verdict::wrong_address, *named};
    if (is_expired(entry, now)) return {Verdict::expired, *named};
    return {Verdict::allowed, *named};
}
static_assert(Verdict::not_named < Verdict::wrong_address && Verdict::wrong_address < Verdict::expired);

}  // namespace

std::string_view describe(Verdict verdict) {
    switch (verdict) {
        case Verdict::allowed: return "allowed";
        case Verdict::unknown_key: return "the key is not in known_hosts";
        case Verdict::revoked: return "the key is revoked";
        case Verdict::not_named: return "the key's name is not in the service's allow list";
        case Verdict::wrong_address: return "the key may not be used from this address (from=)";
        case Verdict::expired: return "the key's line has expired (valid-until=)";
    }
    return "unknown";
}

Registry::Registry(std::vector<Entry> entries) : entries_(std::move(entries)) {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
        by_key_[entries_[i].key].push_back(i);
        for (const auto& name : entries_[i].names) {
            auto& of_name = by_name_[name];
            if (of_name.empty() || of_name.back() != i) of_name.push_back(i);  // a line may repeat a name
        }
    }
}

Decision Registry::authorise(const crypto::PublicKey& key, const AllowList& allow, const IpAddress& source,
                             WallTime now) const {
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) return {allow.any ? Verdict::allowed : Verdict::unknown_key, {}};
    const auto& lines = found->second;
    const std::string& first_name = entries_[lines.front()].names.front();
    if (is_revoked(key)) return {Verdict::revoked, first_name};
    if (allow.any) return {Verdict::allowed, first_name};
    Decision best{Verdict::not_named, first_name};
    for (const std::size_t line : lines) {
        Decision decision = decide(entries_[line], allow, source, now);
        if (decision.verdict == Verdict::allowed) return decision;
        if (decision.verdict > best.verdict) best = std::move(decision);
    }
    return best;
}

std::vector<crypto::PublicKey> Registry::keys_of(std::string_view name, WallTime now) const {
    std::vector<crypto::PublicKey> keys;
    const auto found = by_name_.find(std::string(name));
    if (found == by_name_.end()) return keys;
    for (const std::size_t line : found->second) {
        const Entry& entry = entries_[line];
        const bool known = std::ranges::find(keys, entry.key) != keys.end();
        if (!known && !is_expired(entry, now) && !is_revoked(entry.key)) keys.push_back(entry.key);
    }
    return keys;
}

bool Registry::is_trusted_server(const crypto::PublicKey& key, WallTime now) const {
    const auto found = by_key_.find(key);
    if (found == by_key_.end() || is_revoked(key)) return false;
    return std::ranges::any_of(found->second,
                               [&](std::size_t line) { return !is_expired(entries_[line], now); });
}

bool Registry::is_revoked(const crypto::PublicKey& key) const {
    const auto found = by_key_.find(key);
    return found != by_key_.end() &&
           std::ranges::any_of(found->second, [&](std::size_t line) { return entries_[line].revoked; });
}

std::optional<WallTime> Registry::next_expiry(WallTime now) const {
    std::optional<WallTime> next;
    for (const Entry& entry : entries_) {
        const auto& until = entry.valid_until;
        if (until && *until > now && (!next || *until < *next)) next = until;
    }
    return next;
}

Registry Registry::with_revoked(const std::vector<crypto::PublicKey>& keys) const {
    auto entries = entries_;
    for (const auto& key : keys) {
        const std::string_view name = name_of(key);
        entries.push_back({true, {}, {}, {name.empty() ? "revoked" : std::string(name)}, key, {}, 0});
    }
    return Registry(std::move(entries));
}

std::string_view Registry::name_of(const crypto::PublicKey& key) const {
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) return {};
    return entries_[found->second.front()].names.front();
}

std::vector<crypto::PublicKey> add_missing(std::vector<crypto::PublicKey>& known,
                                           const std::vector<crypto::PublicKey>& keys) {
    const std::size_t before = known.size();
    for (const auto& key : keys) {
        if (std::ranges::find(known, key) == known.end()) known.push_back(key);
    }
    return {known.begin() + static_cast<std::ptrdiff_t>(before), known.end()};
}

}  // namespace curvegate::registry
