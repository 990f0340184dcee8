#include "vault/rotation.hpp"

#include "os/file.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace curvegate::vault {
namespace {

std::string key_text(FixedBytes<32> key) {
    return crypto::encode_key(key, crypto::KeyFormat::base64);
}

}  // namespace

Result<Service::Key> KeyNonces::serve(LongTermKey key, std::unique_ptr<CounterStore> from,
                                      RandomSource& random) {
    counter = std::move(from);
    auto permutation = crypto::NoncePermutation::derive(key.secret, counter->salt().bytes);
    if (!permutation) return fail(std::move(permutation));
    nonces.emplace(std::move(*permutation), counter->counter(), random);
    return Service::Key{std::move(key), &*nonces};
}

Rotation::Rotation(Parts parts, std::unique_ptr<RotationStore> store,
                   std::array<std::unique_ptr<KeyNonces>, 2> live)
    : parts_(std::move(parts)), store_(std::move(store)), live_(std::move(live)) {}

std::vector<NonceCounter*> Rotation::counters() const {
    std::vector<NonceCounter*> out;
    for (const auto& one : live_) {
        if (one) out.push_back(&one->counter->counter());
    }
    return out;
}

ControlReply Rotation::handle(const ControlRequest& request, std::vector<os::UniqueFd> handed, Instant now) {
    ControlReply out{
        request.verb, carry_out(request, std::move(handed)), {}, parts_.state_dir, store_->path()};
    if (!out.refusal.empty()) {
        parts_.say("rotate " + std::string(name_of(request.verb)) + " refused: " + out.refusal);
    }
    out.keys.push_back(describe_key(state().current, KeyPart::current, now));
    if (state().part != Second::none) {
        const auto part = state().part == Second::next ? KeyPart::next : KeyPart::previous;
        out.keys.push_back(describe_key(state().second, part, now));
    }
    return out;
}

ControlKey Rotation::describe_key(const RotationKey& key, KeyPart part, Instant now) const {
    const auto use = parts_.service->use_of(key.slot).value_or(Service::Use{});
    std::uint64_t idle = ControlKey::kNever;
    if (use.last) {
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - *use.last).count();
        idle = seconds < 0 ? 0 : static_cast<std::uint64_t>(seconds);
    }
    return {key.slot,    part, key.public_key,
            use.clients, idle, key.path.empty() ? parts_.server_key : key.path};
}

Rotation::Refusal Rotation::carry_out(const ControlRequest& request, std::vector<os::UniqueFd> handed) {
    if (handed.size() != descriptors_of(request.verb))
        return "the request came with a wrong number of descriptors";
    if (!handed.empty() && !store_->is_this_file(handed.front().get()))
        return "the request does not prove that its sender may write to " + store_->path();
    switch (request.verb) {
        case ControlVerb::status: return {};
        case ControlVerb::start: return start(request, std::move(handed));
        case ControlVerb::switch_over: return switch_over();
        case ControlVerb::finish: return drop(finish_rotation(state()));
        case ControlVerb::cancel: return drop(cancel_rotation(state()));
        case ControlVerb::compromised: return compromised();
    }
    return "unknown request";
}

// Everything that can fail comes before the state is written: what is written can be put into force.
Rotation::Refusal Rotation::start(const ControlRequest& request, std::vector<os::UniqueFd> handed) {
    const std::string path(request.path);
    const AskPassphrase ask = [&](MutableBytes out) -> std::optional<std::size_t> {
        if (request.passphrase.empty() || request.passphrase.size() > out.size()) return std::nullopt;
        std::ranges::copy(request.passphrase, out.begin());
        return request.passphrase.size();
    };
    auto key = load_handed_key(handed[1].get(), path, *parts_.pool, ask);
    if (!key) return key.error().text();
    if (key->role != KeyRole::server) return path + " is not a key of role server";
    if (parts_.client_key == key->public_key)
        return path + " is this vault's client key; each role needs its own";
    const auto public_key = key->public_key;
    const Step step = begin_rotation(state(), public_key, path);
    if (!step) return step.error();

    const std::string folder = parts_.state_dir.empty() ? os::folder_of(path) : parts_.state_dir;
    auto counter = CounterStore::adopt(counter_path(folder, public_key), public_key, std::move(handed[2]),
                                       std::move(handed[3]));
    if (!counter) return counter.error().text();
    auto with = std::make_unique<KeyNonces>();
    auto ready = with->serve(std::move(*key), std::move(*counter), *parts_.random);
    if (!ready) return ready.error().text();
    if (auto refusal = commit(step); !refusal.empty()) return refusal;
    parts_.service->add_server(std::move(*ready), state().second.slot);
    live_[1] = std::move(with);
    if (hooks_.counter_added) hooks_.counter_added(live_[1]->counter->counter());
    parts_.say("key rotation: " + key_text(state().second.public_key) + " is live beside the current key");
    return {};
}

Rotation::Refusal Rotation::switch_over() {
    if (auto refusal = commit(switch_keys(state())); !refusal.empty()) return refusal;
    parts_.service->switch_servers();
    std::swap(live_[0], live_[1]);
    parts_.say("key rotation: " + key_text(state().current.public_key) + " is the current key now");
    return {};
}

Rotation::Refusal Rotation::drop(const Step& step) {
    const auto key = state().second.public_key;
    if (auto refusal = commit(step); !refusal.empty()) return refusal;
    drop_second();
    parts_.say("key rotation: " + key_text(key) + " is dropped");
    return {};
}

Rotation::Refusal Rotation::compromised() {
    const RotationKey old = state().part == Second::next ? state().current : state().second;
    const bool behind = state().part == Second::next;
    if (auto refusal = commit(drop_compromised(state())); !refusal.empty()) return refusal;
    if (behind) {
        parts_.service->switch_servers();
        std::swap(live_[0], live_[1]);
    }
    drop_second();
    if (hooks_.key_compromised) hooks_.key_compromised(old.slot);
    parts_.say("key rotation: " + key_text(old.public_key) + " is dropped as COMPROMISED; " +
               key_text(state().current.public_key) + " is the only key now");
    return {};
}

Rotation::Refusal Rotation::commit(const Step& step) {
    if (!step) return step.error();
    if (auto written = store_->advance(*step); !written) return written.error().text();
    return {};
}

void Rotation::drop_second() {
    parts_.service->drop_second();
    if (live_[1] && hooks_.counter_dropped) hooks_.counter_dropped(live_[1]->counter->counter());
    live_[1].reset();
}

}  // namespace curvegate::vault
