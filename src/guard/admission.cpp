#include "guard/admission.hpp"

#include "crypto/permutation.hpp"

#include <array>

namespace curvegate::guard {
namespace {

constexpr std::size_t kSourceCells = 65'536;
constexpr std::size_t kPrefixCells = 4'096;
constexpr std::size_t kTokenCells = 65'536;
constexpr Duration kLoadLasts = std::chrono::seconds(1);
constexpr Duration kKnownLasts = std::chrono::minutes(10);
constexpr std::size_t kReservedPart = 8;  // of the half-open table: one part in 8 is for known networks

// A source is a /32 or a /64; the networks around it have budgets of their own, a few times larger.
struct Level {
    unsigned bits;  // of 128
    double times;
};
constexpr std::array kV4Levels = {Level{128, 1}, Level{120, 4}};
constexpr std::array kV6Levels = {Level{64, 1}, Level{56, 2}, Level{48, 4}};

std::span<const Level> levels_of(const IpAddress& source) {
    return source.is_v4() ? std::span<const Level>(kV4Levels) : std::span<const Level>(kV6Levels);
}

}  // namespace

Admission::Admission(const AdmissionLimits& limits, RandomSource& random)
    : limits_(limits),
      per_source_(kSourceCells),
      per_prefix_(kPrefixCells),
      tokens_(kTokenCells, Tokens{-1, Instant{}}),
      known_(kPrefixCells, Instant::min()) {
    random.fill(hash_key_);
}

std::size_t Admission::cell(const IpAddress& address, unsigned bits, std::size_t size) const {
    ByteArray<17> text{};
    Writer(text).put(address.prefix(bits).bytes).integer(static_cast<Byte>(bits));
    return crypto::siphash(hash_key_, text) % size;
}

Result<Admission::Ticket> Admission::admit(const Knock& knock, std::function<void()> evict) {
    const std::lock_guard lock(mutex_);
    const auto& source = knock.source;
    const Instant now = knock.now;
    const auto levels = levels_of(source);
    const std::size_t source_cell = cell(source, levels.front().bits, kSourceCells);
    const std::size_t prefix_cell = cell(source, levels.back().bits, kPrefixCells);
    const bool known = known_[prefix_cell] != Instant::min() && now - known_[prefix_cell] < kKnownLasts;
    if (per_source_[source_cell] >= limits_.half_open_per_source) return fail(AdmissionErrc::source_full);
    const bool pays = under_load(knock) && !known;
    if (pays && !take_tokens(source, now)) return fail(AdmissionErrc::over_rate);
    const std::size_t reserved = known ? 0 : limits_.half_open / kReservedPart;
    if (!make_room(prefix_cell, limits_.half_open - reserved)) return fail(AdmissionErrc::total_full);
    ++per_source_[source_cell];
    ++half_open_;
    auto& guests = per_prefix_[prefix_cell];
    guests.push_back(Guest{source_cell, prefix_cell, std::move(evict)});
    return Ticket(shared_from_this(), source, std::prev(guests.end()), pays);
}

bool Admission::under_load(const Knock& knock) {
    if (knock.vault_busy || half_open_ > limits_.half_open / 2) loaded_until_ = knock.now + kLoadLasts;
    return loaded_until_ && knock.now < *loaded_until_;
}

bool Admission::take_tokens(const IpAddress& source, Instant now) {
    const auto levels = levels_of(source);
    const auto refill = [&](const Level& level) -> Tokens& {
        Tokens& tokens = tokens_[cell(source, level.bits, kTokenCells)];
        const double most = static_cast<double>(limits_.handshake_burst) * level.times;
        const double seconds = std::chrono::duration<double>(now - tokens.filled).count();
        // A cell that was never used is full.
        tokens.left = tokens.left < 0
                          ? most
                          : std::min(most, tokens.left + seconds * limits_.handshake_rate * level.times);
        tokens.filled = now;
        return tokens;
    };
    if (std::ranges::any_of(levels, [&](const Level& level) { return refill(level).left < 1; })) return false;
    for (const Level& level : levels) tokens_[cell(source, level.bits, kTokenCells)].left -= 1;
    return true;
}

void Admission::give_tokens(const IpAddress& source) {
    for (const Level& level : levels_of(source)) {
        Tokens& tokens = tokens_[cell(source, level.bits, kTokenCells)];
        tokens.left = std::min(static_cast<double>(limits_.handshake_burst) * level.times, tokens.left + 1);
    }
}

// Full: the oldest guest of the fullest network goes, unless that is the newcomer's own.
bool Admission::make_room(std::size_t prefix_cell, std::size_t limit) {
    if (half_open_ < limit) return true;
    const auto fullest = std::ranges::max_element(per_prefix_, {}, &Guests::size);
    if (fullest->empty() || fullest->size() <= per_prefix_[prefix_cell].size()) return false;
    const auto oldest =
        std::ranges::find_if(*fullest, [](const Guest& guest) { return guest.evict != nullptr; });
    if (oldest == fullest->end()) return false;
    auto evict = std::exchange(oldest->evict, nullptr);
    evict();
    return true;
}

void Admission::leave(Guests::iterator guest) {
    --per_source_[guest->source_cell];
    --half_open_;
    per_prefix_[guest->prefix_cell].erase(guest);
}

std::size_t Admission::half_open() const {
    const std::lock_guard lock(mutex_);
    return half_open_;
}

Admission::Ticket::~Ticket() {
    if (!owner_) return;
    const std::lock_guard lock(owner_->mutex_);
    owner_->leave(guest_);
}

void Admission::Ticket::succeed(Instant now) {
    const std::lock_guard lock(owner_->mutex_);
    owner_->known_[guest_->prefix_cell] = now;
    if (took_tokens_) owner_->give_tokens(source_);
}

SessionLimits::Slot::~Slot() {
    if (!owner_) return;
    const std::lock_guard lock(owner_->mutex_);
    if (peer_ != nullptr && --peer_->second == 0) owner_->peers_.erase(peer_->first);
    if (source_ != nullptr && --source_->second == 0) owner_->sources_.erase(source_->first);
    if (--service_->second == 0) owner_->services_.erase(service_->first);
    --owner_->in_all_;
}

Result<SessionLimits::Slot> SessionLimits::take(ServiceId service, const std::optional<Client>& client,
                                                const SessionMost& most) {
    const auto count_of = [](const auto& counts, const auto& key) {
        const auto found = counts.find(key);
        return found != counts.end() ? found->second : std::size_t{0};
    };
    const auto source = client ? client->source.prefix(levels_of(client->source).front().bits) : IpAddress{};
    const std::lock_guard lock(mutex_);
    if (client && count_of(peers_, client->key) >= most.of_peer) return fail(SessionErrc::of_peer);
    if (client && count_of(sources_, source) >= most.of_source) return fail(SessionErrc::of_source);
    if (count_of(services_, service) >= most.of_service) return fail(SessionErrc::of_service);
    if (in_all_ >= most.in_all) return fail(SessionErrc::in_all);
    Slot slot(shared_from_this());
    if (client) {
        slot.peer_ = &*peers_.try_emplace(client->key).first;
        slot.source_ = &*sources_.try_emplace(source).first;
        ++slot.peer_->second;
        ++slot.source_->second;
    }
    slot.service_ = &*services_.try_emplace(service).first;
    ++slot.service_->second;
    ++in_all_;
    return slot;
}

std::size_t SessionLimits::in_all() const {
    const std::lock_guard lock(mutex_);
    return in_all_;
}

}  // namespace curvegate::guard
