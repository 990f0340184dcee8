#pragma once

#include "base/bytes.hpp"
#include "base/path.hpp"
#include "base/random.hpp"
#include "base/time.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace curvegate::guard {

/// CurveCP Hellos (PROTOCOL 7.3) that wait for the vault, of one worker. A Hello costs its sender nothing and
/// us public-key work, so the networks of the senders (IPv4 /24, IPv6 /48) are served in turn, and when all
/// places are taken the network that has most of them loses one. Networks are told apart by a keyed hash: two
/// that fall together share a turn, but not for long, as the key changes.
///
/// All memory is taken when the queue is made; a Hello allocates nothing. No sockets, no clock; one thread.
class HelloQueue {
  public:
    static constexpr std::size_t kHelloSize = 224;  ///< bytes on the wire
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
        ByteArray<kHelloSize> packet{};
        Instant arrived;
    };
    struct Drops {
        std::uint64_t crowded_out = 0;  ///< to make room for another
        std::uint64_t too_late = 0;     ///< waited longer than kPatience
    };

    /// Room for `places` Hellos, 1 to 65,534. `random` outlives it.
    explicit HelloQueue(RandomSource& random, std::size_t places = kPlaces);

    /// Takes a Hello in. If there is no place left, the oldest Hello of the network that has most goes (the
    /// newcomer's own if none has more). Returns false if one had to go.
    bool push(const Path& path, FixedBytes<kHelloSize> packet, Instant now);
    /// The next Hello to answer: networks in turn, of each the newest Hello first, none older than kPatience.
    [[nodiscard]] std::optional<Hello> pop(Instant now);

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] const Drops& drops() const noexcept { return drops_; }
    /// Did a Hello have to go for another within the last kLoadLasts?
    [[nodiscard]] bool under_load(Instant now) const;
    /// May one more Hello be answered now? Always when not under load, else kAnswersUnderLoad times a second
    /// (kAnswersAtOnce in a row); each yes counts as one.
    [[nodiscard]] bool allowed(Instant now);

  private:
    using Index = std::uint16_t;
    static constexpr Index kNone = 0xffff;

    struct Place {
        Hello hello;
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

}  // namespace curvegate::guard
