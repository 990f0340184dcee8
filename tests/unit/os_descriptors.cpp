#include "os/descriptors.hpp"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace curvegate::os {
namespace {

// In a process of its own, whose limit is lowered. 0: as it should be, else the step that failed.
int sessions_leave_some() {
    constexpr rlim_t kLimit = 80;
    const rlimit limit{kLimit, kLimit};
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return 1;
    if (is_kept_back(79)) return 2;  // nobody has asked for it yet
    keep_descriptors_back();
    if (is_kept_back(69) || !is_kept_back(70)) return 3;
    std::vector<UniqueFd> sessions;
    for (;;) {
        UniqueFd next = socket_for_session(AF_UNIX, SOCK_STREAM);
        if (!next) break;
        sessions.push_back(std::move(next));
    }
    if (errno != EMFILE) return 4;
    if (sessions.empty() || has_room_for_session(sessions.front().get())) return 5;
    std::vector<UniqueFd> others;
    for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) others.emplace_back(fd);
    if (others.size() != kLimit / 8) return 6;
    sessions.pop_back();
    return has_room_for_session(sessions.front().get()) ? 0 : 7;
}

TEST_CASE("sessions leave descriptors to others", "[os][descriptors]") {
    CHECK(kept_back(1'024) == 128);
    CHECK(kept_back(524'288) == 192);
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) ::_exit(sessions_leave_some());
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace curvegate::os
