#include "guard/hello_queue.hpp"

#include "crypto/permutation.hpp"

#include <algorithm>

namespace curvegate::guard {
namespace {

constexpr unsigned kV4Network = 120;  // of 128 bits: a /24
constexpr unsigned kV6Network = 48;

}  // namespace

HelloQueue::HelloQueue(RandomSource& random, std::size_t places) : random_(random), places_(places) {
    for (std::size_t i = places; i-- > 0;) places_[i].older = std::exchange(free_, static_cast<Index>(i));
}

HelloQueue::Network& HelloQueue::network_of(const Path& path) {
    const IpAddress source = path.peer.address.ip;
    const IpAddress network = source.prefix(source.is_v4() ? kV4Network : kV6Network);
    return networks_[crypto::siphash(hash_key_, network.bytes) % kNetworks];
}

// What waits stays where it is: only a newcomer's place depends on the key.
void HelloQueue::change_key(Instant now) {
    if (key_made_ && now - *key_made_ < kKeyLasts) return;
    key_made_ = now;
    random_.fill(hash_key_);
}

HelloQueue::Network& HelloQueue::fullest(Network& newcomers) {
    Network& most = *std::ranges::max_element(networks_, {}, &Network::count);
    return most.count > newcomers.count ? most : newcomers;
}

bool HelloQueue::push(const Path& path, FixedBytes<kHelloSize> packet, Instant now) {
    change_key(now);
    Network& network = network_of(path);
    const bool full = free_ == kNone;
    if (full) {
        Network& loser = fullest(network);
        take_out(loser, loser.oldest);
        ++drops_.crowded_out;
        loaded_until_ = now + kLoadLasts;
    }
    const Index taken = free_;
    Place& place = places_[taken];
    free_ = place.older;
    place.hello.path = path;
    std::ranges::copy(packet, place.hello.packet.begin());
    place.hello.arrived = now;
    place.newer = kNone;
    place.older = network.newest;
    (network.newest == kNone ? network.oldest : places_[network.newest].newer) = taken;
    network.newest = taken;
    ++network.count;
    ++size_;
    return !full;
}

void HelloQueue::take_out(Network& network, Index index) {
    Place& place = places_[index];
    (place.newer == kNone ? network.newest : places_[place.newer].older) = place.older;
    (place.older == kNone ? network.oldest : places_[place.older].newer) = place.newer;
    --network.count;
    --size_;
    place.older = std::exchange(free_, index);
}

std::optional<HelloQueue::Hello> HelloQueue::pop(Instant now) {
    for (std::size_t i = 0; size_ != 0 && i < kNetworks; ++i) {
        Network& network = networks_[turn_];
        turn_ = (turn_ + 1) % kNetworks;
        while (network.count != 0 && now - places_[network.oldest].hello.arrived > kPatience) {
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

bool HelloQueue::under_load(Instant now) const {
    return loaded_until_ && now < *loaded_until_;
}

bool HelloQueue::allowed(Instant now) {
    const double seconds = std::chrono::duration<double>(now - filled_).count();
    tokens_ = std::min(kAnswersAtOnce, tokens_ + seconds * kAnswersUnderLoad);
    filled_ = now;
    if (!under_load(now)) return true;
    if (tokens_ < 1) return false;
    tokens_ -= 1;
    return true;
}

}  // namespace curvegate::guard
