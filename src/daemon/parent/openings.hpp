#pragma once

#include "config/config.hpp"
#include "daemon/doors.hpp"
#include "daemon/front_setup.hpp"
#include "daemon/parent/passed.hpp"
#include "os/socket.hpp"
#include "os/socket_files.hpp"

#include <expected>
#include <string>

namespace curvegate::daemon::parent {

/// What the parent has opened and keeps open: the sockets of all doors, of control and metrics, and the audit
/// file.
///
/// - Each door of the configuration in force has its sockets here. Fronts get copies, so that what waits in
///   their queues outlives a front.
/// - Who may speak on the control socket is settled when it is opened, with its file's group and mode. A
///   front that follows after a reload gets no other groups than the first one had.
/// - A socket file that this process made is removed with its socket, by the process that made it alone.
class Openings {
  public:
    /// `passed` came from the service manager.
    Openings(PassedSockets passed, std::size_t workers) : passed_(std::move(passed)), workers_(workers) {}
    ~Openings() { close(); }
    Openings(const Openings&) = delete;
    Openings& operator=(const Openings&) = delete;

    /// At the start: all that `config` names. Returns false if something cannot be opened; it has been
    /// logged.
    [[nodiscard]] bool open_all(const config::Config& config);

    /// For a reload: the sockets of those doors of `config` that are not open. Error: words for people, with
    /// file and line.
    [[nodiscard]] std::expected<DoorSockets, std::string> open_new_doors(const config::Config& config);
    /// For a reload, and when the file was moved away: no descriptor if `config` names none, or if the one
    /// that is open is that file. Error: os system, with what to do.
    [[nodiscard]] Result<os::UniqueFd> open_new_audit(const config::Config& config) const;
    /// The reload has failed: files of sockets that were opened for it go.
    void keep_to(const config::Config& in_force);
    /// `next` is in force, and `opened` are its new doors. Those that it has not are closed.
    void adopt(const config::Config& next, DoorSockets opened);

    [[nodiscard]] const DoorSockets& doors() const noexcept { return doors_; }
    [[nodiscard]] int audit() const noexcept { return audit_.get(); }  ///< -1: there is none
    void audit_is(os::UniqueFd file) noexcept { audit_ = std::move(file); }

    /// Puts copies of all of it into `setup`. Error: os system; no descriptor is left.
    [[nodiscard]] Result<> copy_into(FrontSetup& setup) const;

    /// The doors are closed: whoever comes now is told at once that nobody listens.
    void close_doors();
    void close();  ///< the doors, and the files of the other sockets are removed
    /// In a process that was forked: closes all, and leaves the files to the parent.
    void forget();

  private:
    [[nodiscard]] bool open_control(const config::Config& config);
    [[nodiscard]] bool open_metrics(const config::Config& config);
    [[nodiscard]] bool open_audit_file(const config::Config& config);
    void tell_unused(const config::Config& config) const;

    PassedSockets passed_;
    std::size_t workers_;
    DoorSockets doors_;
    os::UniqueFd control_;
    ControlAccess control_access_{};
    os::UniqueFd metrics_;
    os::UniqueFd audit_;
    os::SocketFiles door_files_;  // of the unix sockets that sections accept at
    os::SocketFiles own_files_;   // of control and metrics
};

}  // namespace curvegate::daemon::parent
