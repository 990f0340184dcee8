#pragma once

#include "daemon/doors.hpp"
#include "daemon/loaded.hpp"
#include "os/socket.hpp"

#include <cstdint>
#include <expected>
#include <map>
#include <string>

namespace curvegate::daemon::front {

/// A configuration that the parent sends: the texts of its files and of known_hosts, and sockets of its
/// doors, a descriptor each. Nothing of it is in force before all of it is here.
class Arrival {
  public:
    /// An empty descriptor, here and below: it found no room in this process.
    explicit Arrival(os::UniqueFd config_text) { take_text(std::move(config_text), config_text_); }
    Arrival() = default;

    void known_hosts(os::UniqueFd text) { take_text(std::move(text), known_hosts_text_); }
    /// `door` is its place in doors_of(). Of a door they come in the order of the workers.
    void socket(std::uint16_t door, os::UniqueFd socket);

    /// Did all descriptors find room?
    [[nodiscard]] bool is_whole() const noexcept { return whole_; }
    /// Parses the texts. The parent has done so before: an error is a defect.
    [[nodiscard]] std::expected<Loaded, LoadFailure> parse();
    /// The sockets of those doors of `next` that `before` has not: when all are sent again there are some
    /// that are open here already.
    [[nodiscard]] DoorSockets sockets_for(const config::Config& next, const config::Config& before);

  private:
    void take_text(os::UniqueFd from, std::string& into);

    std::string config_text_;
    std::string known_hosts_text_;
    std::map<std::size_t, std::vector<os::UniqueFd>> sockets_;  // by the door's place
    bool whole_ = true;
};

}  // namespace curvegate::daemon::front
