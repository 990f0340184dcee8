#include "daemon/parent/reach.hpp"

#include "os/sanitizer.hpp"
#include "tests/unit/vault_support.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <cerrno>
#include <functional>

namespace curvegate::daemon::parent {
namespace {

constexpr int kNoSandbox = 100;

config::Config config_in(const vault::test::TemporaryFolder& folder) {
    config::Config out;
    out.known_hosts = folder.file("known_hosts");
    out.server_key = folder.file("server.key");
    out.control = folder.file("control.sock");
    return out;
}

/// The errno of `call` in a child that is confined as the daemon's parent is; 0 if the call works.
int errno_as_parent(const config::Config& config, const std::function<long()>& call) {
    const pid_t child = ::fork();
    if (child == 0) {
        if (!os::harden_process() ||
            !os::confine(os::Calls::parent, reach_of(config, "/nonexistent/curvegate-vault")))
            ::_exit(kNoSandbox);
        errno = 0;
        ::_exit(call() < 0 ? errno : 0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

TEST_CASE("the parent writes in the folders that the configuration names, and reads no process") {
    const vault::test::TemporaryFolder folder;
    const vault::test::TemporaryFolder elsewhere;
    const auto config = config_in(folder);
    vault::test::write_file(folder.file("known_hosts"), "x");
    vault::test::write_file(elsewhere.file("x"), "x");
    const auto opens = [](const std::string& path, int flags) {
        return [path, flags] { return static_cast<long>(::open(path.c_str(), flags, 0600)); };
    };
    CHECK(errno_as_parent(config, opens(folder.file("known_hosts"), O_RDWR)) == 0);
    CHECK(errno_as_parent(config, opens(folder.file("known_hosts.new"), O_WRONLY | O_CREAT)) == 0);
    CHECK(errno_as_parent(config, opens(elsewhere.file("x"), O_RDONLY)) == 0);  // a reload may name it
    CHECK(errno_as_parent(config, opens(elsewhere.file("x"), O_WRONLY)) == EACCES);
    CHECK(errno_as_parent(config, opens(elsewhere.file("new"), O_WRONLY | O_CREAT)) == EACCES);
    CHECK(errno_as_parent(config, opens("/dev/null", O_RDONLY)) == 0);
    CHECK(errno_as_parent(config, opens("/dev/null", O_WRONLY)) == EACCES);
    CHECK(errno_as_parent(config, opens("/sys", O_RDONLY)) == EACCES);  // which a chroot may not have mounted
    if constexpr (!os::kSanitized) {
        CHECK(errno_as_parent(config, opens("/proc/self/mem", O_RDONLY)) == EACCES);
        CHECK(errno_as_parent(config, [] {
                  char* const none[] = {nullptr};
                  return static_cast<long>(::execve("/bin/true", none, none));
              }) == EACCES);
    }
}

TEST_CASE("a device is named by itself, not by its folder") {
    const vault::test::TemporaryFolder folder;
    auto config = config_in(folder);
    config.log_file = "/dev/null";
    const auto opens = [](const char* path) {
        return [path] { return static_cast<long>(::open(path, O_WRONLY)); };
    };
    CHECK(errno_as_parent(config, opens("/dev/null")) == 0);
    CHECK(errno_as_parent(config, opens("/dev/zero")) == EACCES);
}

TEST_CASE("what a later configuration needs beyond the sandbox is told folder by folder") {
    const vault::test::TemporaryFolder folder;
    const auto before = config_in(folder);
    const auto reach = reach_of(before, "curvegate-vault");
    CHECK(beyond(reach, before).empty());
    auto after = before;
    after.log_file = folder.path() + "/below/curvegate.log";
    CHECK(beyond(reach, after).empty());
    after.log_file = folder.path() + "-beside/curvegate.log";
    REQUIRE(beyond(reach, after).size() == 1);
    CHECK(beyond(reach, after).front().find(folder.path() + "-beside: ") != std::string::npos);
}

}  // namespace
}  // namespace curvegate::daemon::parent
