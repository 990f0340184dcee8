#include "daemon/front/arrival.hpp"

#include "config/include.hpp"
#include "os/file.hpp"

#include <cstdlib>
#include <unordered_set>

namespace curvegate::daemon::front {
namespace {

constexpr std::size_t kLargestText = config::kMostText + (std::size_t{8} << 20);  // with the names of files

}  // namespace

void Arrival::take_text(os::UniqueFd from, std::string& into) {
    if (!from) whole_ = false;
    auto text = from ? os::read_memory_file(from.get(), kLargestText) : Result<std::string>(std::string());
    into = text ? std::move(*text) : std::string();
}

void Arrival::socket(std::uint16_t door, os::UniqueFd socket) {
    if (!socket) whole_ = false;
    sockets_[door].push_back(std::move(socket));
}

std::expected<Loaded, LoadFailure> Arrival::parse() {
    auto sources = config::unpack(config_text_);
    if (!sources) return std::unexpected(LoadFailure{EXIT_FAILURE, {"no whole configuration has come"}});
    return daemon::parse(std::move(*sources), std::move(known_hosts_text_));
}

DoorSockets Arrival::sockets_for(const config::Config& next, const config::Config& before) {
    std::unordered_set<std::string> open;
    for (DoorPlan& plan : doors_of(before)) open.insert(std::move(plan.key));
    const auto plans = doors_of(next);
    DoorSockets out;
    for (auto& [door, sockets] : sockets_) {
        if (door < plans.size() && !open.contains(plans[door].key)) out[plans[door].key] = std::move(sockets);
    }
    return out;
}

}  // namespace curvegate::daemon::front
