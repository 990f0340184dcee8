#pragma once

#include "base/bytes.hpp"
#include "base/path.hpp"
#include "base/random.hpp"
#include "base/time.hpp"
#include "crypto/permutation.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace curvegate::guard {

/// Hellos that wait for the vault (PROTOCOL 7.3), of one worker; `Packet` is what their wire parses them to,
/// and needs no memory of its own. A Hello costs its sender nothing and
/// us public-key work, so the networks of the senders (IPv4 /24, IPv6 /48) are served in turn, and when all
/// places are taken the network that has most of them loses one. Networks are told apart by a keyed hash: two
/// that fall together share a turn, but not for long, as the key changes.
///
/// All memory is taken when the queue is made; a Hello allocates nothing. No sockets, no clock; one thread.
template <class Packet>
class HelloQueue {
  public:
    static constexpr std::size_t kPlaces = 512;
    static constexpr std::size_t kNetworks = 256;
    /// A client asks again after a second or so: what has waited longer than this is not worth an answer.
    static constexpr Duration kPatience = std::chrono::seconds(2);
    static constexpr Duration kKeyLasts = std::chrono::milliseconds(200);
    static constexpr Duration kLoadLasts = std::chrono::seconds(1);
    static constexpr double kAnswersUnderLoad = 500;  ///< a second
    static constexpr double kAnswersAtOnce = 32;

    struct Hello {
        Path path;
        Packet packet;
        Instant arrived;
    };
    struct Drops {
        std::uint64_t crowded_out = 0;  ///< to make room for another
        std::uint64_t too_late = 0;     ///< waited longer than kPatience
    };

    /// Room for `places` Hellos, 1 to 65,534. `random` outlives it.
    explicit HelloQueue(RandomSource& random, std::size_t places = kPlaces)
        : random_(random), places_(places) {
        for (std::size_t i = places; i-- > 0;) places_[i].older = std::exchange(free_, static_cast<Index>(i));
    }

    /// Takes a Hello in. If there is no place left, the oldest Hello of the network that has most goes (the
    /// newcomer's own if none has more).
    void push(const Path& path, const Packet& packet, Instant now);
    /// The next Hello to answer: networks in turn, of each the newest Hello first, none older than kPatience.
    [[nodiscard]] std::optional<Hello> pop(Instant now);

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] const Drops& drops() const noexcept { return drops_; }
    /// Did a Hello have to go for another within the last kLoadLasts?
    [[nodiscard]] bool under_load(Instant now) const { return loaded_until_ && now < *loaded_until_; }
    /// May one more Hello be answered now? Always when not under load, else kAnswersUnderLoad times a second
    /// (kAnswersAtOnce in a row); each yes counts as one.
    [[nodiscard]] bool allowed(Instant now);

  private:
    using Index = std::uint16_t;
    static constexpr Index kNone = 0xffff;
    static constexpr unsigned kV4Network = 120;  // of 128 bits: a /24
    static constexpr unsigned kV6Network = 48;

    struct Place {
        std::optional<Hello> hello;  // of a place that was ever taken
        Index newer = kNone;
        Index older = kNone;  // also links the free places
    };
    struct Network {
        Index newest = kNone;
        Index oldest = kNone;
        Index count = 0;
    };

    [[nodiscard]] Network& network_of(const Path& path);
    void change_key(Instant now);
    [[nodiscard]] Network& fullest(Network& newcomers);
    void take_out(Network& network, Index index);

    RandomSource& random_;
    ByteArray<16> hash_key_{};
    std::optional<Instant> key_made_;
    std::vector<Place> places_;
    std::array<Network, kNetworks> networks_{};
    Index free_ = kNone;
    std::size_t size_ = 0;
    std::size_t turn_ = 0;  // whose it is, in networks_
    Drops drops_;
    std::optional<Instant> loaded_until_;
    double tokens_ = kAnswersAtOnce;
    Instant filled_;
};

template <class Packet>
typename HelloQueue<Packet>::Network& HelloQueue<Packet>::network_of(const Path& path) {
    const IpAddress source = path.peer.address.ip;
    const IpAddress network = source.prefix(source.is_v4() ? kV4Network : kV6Network);
    return networks_[crypto::siphash(hash_key_, network.bytes) % kNetworks];
}

// What waits stays where it is: only a newcomer's place depends on the key.
template <class Packet>
void HelloQueue<Packet>::change_key(Instant now) {
    if (key_made_ && now - *key_made_ < kKeyLasts) return;
    key_made_ = now;
    random_.fill(hash_key_);
}

template <class Packet>
typename HelloQueue<Packet>::Network& HelloQueue<Packet>::fullest(Network& newcomers) {
    Network& most = *std::ranges::max_element(networks_, {}, &Network::count);
    return most.count > newcomers.count ? most : newcomers;
}

template <class Packet>
void HelloQueue<Packet>::push(const Path& path, const Packet& packet, Instant now) {
    change_key(now);
    Network& network = network_of(path);
    if (free_ == kNone) {
        Network& loser = fullest(network);
        take_out(loser, loser.oldest);
        ++drops_.crowded_out;
        loaded_until_ = now + kLoadLasts;
    }
    const Index taken = free_;
    Place& place = places_[taken];
    free_ = place.older;
    place.hello = Hello{path, packet, now};
    place.newer = kNone;
    place.older = network.newest;
    (network.newest == kNone ? network.oldest : places_[network.newest].newer) = taken;
    network.newest = taken;
    ++network.count;
    ++size_;
}

template <class Packet>
void HelloQueue<Packet>::take_out(Network& network, Index index) {
    Place& place = places_[index];
    (place.newer == kNone ? network.newest : places_[place.newer].older) = place.older;
    (place.older == kNone ? network.oldest : places_[place.older].newer) = place.newer;
    --network.count;
    --size_;
    place.older = std::exchange(free_, index);
}

template <class Packet>
std::optional<typename HelloQueue<Packet>::Hello> HelloQueue<Packet>::pop(Instant now) {
    for (std::size_t i = 0; size_ != 0 && i < kNetworks; ++i) {
        Network& network = networks_[turn_];
        turn_ = (turn_ + 1) % kNetworks;
        while (network.count != 0 && now - places_[network.oldest].hello->arrived > kPatience) {
            take_out(network, network.oldest);
            ++drops_.too_late;
        }
        if (network.count == 0) continue;
        const Index next = network.newest;
        take_out(network, next);
        return places_[next].hello;
    }
    return std::nullopt;
}

template <class Packet>
bool HelloQueue<Packet>::allowed(Instant now) {
    const double seconds = std::chrono::duration<double>(now - filled_).count();
    tokens_ = std::min(kAnswersAtOnce, tokens_ + seconds * kAnswersUnderLoad);
    filled_ = now;
    if (!under_load(now)) return true;
    if (tokens_ < 1) return false;
    tokens_ -= 1;
    return true;
}

}  // namespace curvegate::guard
