#pragma once

#include "audit/line.hpp"
#include "os/socket.hpp"

#include <string>

namespace curvegate::daemon::front {

/// The writer of an audit file, and where its chain stands. One thread.
class AuditFile {
  public:
    /// The file of parent::open_audit(), where the process may open no path any more. A chain that has begun
    /// goes on in a file that is empty; in another one that file's own does.
    void open(os::UniqueFd fd);
    [[nodiscard]] bool is_open() const noexcept { return static_cast<bool>(fd_); }

    /// Writes the next line by one write(), or nothing: what went out of a line that did not go out whole is
    /// cut off again, now or before the next one. Errors: os system, those of read_tail().
    [[nodiscard]] Result<> append(const audit::Entry& entry, WallTime at);

    /// Finds the end of the chain if it is not known, and cuts a torn line off. Errors as append().
    [[nodiscard]] Result<> resume();
    /// Bytes of lines of others that were cut off, and not told yet.
    [[nodiscard]] std::size_t torn() const noexcept { return torn_; }
    void torn_told() noexcept { torn_ = 0; }

  private:
    os::UniqueFd fd_;
    audit::Link last_;
    bool knows_end_ = false;  // last_ is that of the file's last line
    std::size_t torn_ = 0;
};

}  // namespace curvegate::daemon::front
