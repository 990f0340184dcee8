#include "daemon/parent/handover.hpp"

#include "config/include.hpp"
#include "io/clock.hpp"
#include "log/log.hpp"
#include "os/file.hpp"

#include <array>

namespace curvegate::daemon::parent {
namespace {

constexpr Duration kAgain = std::chrono::seconds(1);

}  // namespace

bool Handover::configuration(const Loaded& next, const DoorSockets& opened, const DoorSockets& open) {
    const auto config = os::memory_file(as_bytes(config::pack(next.sources)));
    const auto peers = os::memory_file(as_bytes(next.known_hosts_text));
    if (!config || !peers) return false;
    front_.send(to_front::NewConfig{}, config->get());
    front_.send(to_front::NewKnownHosts{}, peers->get());
    for (const auto& [key, sockets] : opened) missing_.insert(key);
    const auto plans = doors_of(*next.config);
    for (std::size_t door = 0; door < plans.size(); ++door) {
        if (!missing_.contains(plans[door].key)) continue;
        const DoorSockets& from = opened.contains(plans[door].key) ? opened : open;
        const auto found = from.find(plans[door].key);
        if (found == from.end()) continue;
        for (const auto& socket : found->second)
            front_.send(to_front::DoorSocket{static_cast<std::uint16_t>(door)}, socket.get());
    }
    return front_.hears();
}

void Handover::apply(const to_front::Apply& message) {
    front_.send(message);
    last_ = message;
    last_.id = 0;  // said again, it answers no command
}

void Handover::applied(std::uint32_t generation) {
    if (generation == last_.generation) missing_.clear();
}

void Handover::log(os::UniqueFd file) {
    log_ = std::move(file);
    front_.send(to_front::NewLog{}, log_.get());
}

void Handover::audit(int file) {
    front_.send(to_front::NewAudit{true}, file);
}

void Handover::not_taken(What what) {
    static constexpr std::array<std::string_view, 4> kNames = {"a connection to the vault",
                                                               "the configuration", "log-file", "audit"};
    const auto which = static_cast<std::size_t>(what);
    log::limited(log::Level::error, "front_lacks_descriptors",
                 {{"for", std::string(kNames[which])},
                  {"action",
                   "sent again; a higher limit of descriptors, or lower limits of sessions and "
                   "half-open, keep some free"}});
    if (what == What::vault) return;  // those are VaultKeeper's
    owed_.set(which);
    if (!due_) due_ = io::now() + kAgain;
}

void Handover::new_front() noexcept {
    owed_.reset();
    due_.reset();
    missing_.clear();
}

void Handover::tend(Instant now, const Loaded& loaded, const DoorSockets& open, int audit_file) {
    if (!due_ || now < *due_) return;
    due_.reset();
    if (owes(What::log) && log_) front_.send(to_front::NewLog{}, log_.get());
    if (owes(What::audit) && audit_file >= 0) audit(audit_file);
    const bool whole = owes(What::configuration) && configuration(loaded, {}, open);
    owed_.reset();
    if (whole) front_.send(last_);
}

}  // namespace curvegate::daemon::parent
