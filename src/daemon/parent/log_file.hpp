#pragma once

#include "os/socket.hpp"

#include <string>

namespace curvegate::daemon::parent {

/// Is it /dev/stdout or /dev/stderr? Then lines go to our own standard output or error, and there is nothing
/// to open again.
[[nodiscard]] bool is_standard_stream(const std::string& log_file);

/// Opens a log-file for appending; one that is missing is made (0640). It never waits: a FIFO needs no reader
/// yet. A symbolic link is followed if nobody but us or root can have made it, and if the file that it leads
/// to is nobody else's to write. Error: os system, with what to do.
[[nodiscard]] Result<os::UniqueFd> open_log(const std::string& path);

/// Where a log-file lies if `path` and what it leads to are symbolic links: the last of them leads to no
/// other, and to a file that may not be there yet. Error: os system; one of them is somebody else's.
[[nodiscard]] Result<std::string> follow_links(const std::string& path);

/// If the file system would let us write at `path`, then only our own sandbox keeps us from it, which knows
/// the folder that was there at the start. Returns what to do then, with a blank before it; empty otherwise.
[[nodiscard]] std::string restart_hint(const std::string& path);

}  // namespace curvegate::daemon::parent
