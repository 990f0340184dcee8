#include "os/file.hpp"
#include "os/locked_file.hpp"
#include "os/socket_files.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

namespace curvegate::os {
namespace {

namespace fs = std::filesystem;

/// A folder that goes with the test.
struct Folder {
    fs::path path;
    Folder() {
        std::string name = (fs::temp_directory_path() / "curvegate-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        path = name;
    }
    ~Folder() { fs::remove_all(path); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
};

TEST_CASE("a folder's names are listed unless others may write there", "[os]") {
    const Folder folder;
    for (const auto* name : {"b", "a", ".c"}) std::ofstream(folder.path / name) << name;
    auto names = list_checked(folder.path);
    REQUIRE(names);
    REQUIRE(*names);
    std::ranges::sort(**names);
    CHECK(**names == std::vector<std::string>{".c", "a", "b"});
    CHECK_FALSE(*list_checked(folder.path / "a"));
    CHECK_FALSE(*list_checked(folder.path / "none"));
    for (const auto open : {fs::perms::group_write, fs::perms::others_write}) {
        fs::permissions(folder.path, fs::perms::owner_all | open);
        const auto refused = list_checked(folder.path);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().text().contains("run chmod go-w " + folder.path.string()));
    }
}

/// Binds a unix socket at `path`, as something that makes its file.
UniqueFd bound(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, path.size());
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    return fd;
}

TEST_CASE("of socket files only those are removed that this process made", "[os]") {
    const Folder folder;
    const auto ours = folder.path / "ours";
    const auto other = folder.path / "other";
    SocketFiles files;
    const auto first = bound(ours);
    files.add(ours);
    const auto second = bound(other);
    files.add(other);
    SECTION("which is not wanted any more") {
        files.remove_unless([&](const std::string& path) { return path == other; });
        CHECK_FALSE(fs::exists(ours));
        CHECK(fs::exists(other));
        files.remove_all();
        CHECK_FALSE(fs::exists(other));
    }
    SECTION("not what took the path since: a socket, which the system may give the number of the old file") {
        fs::remove(ours);
        const auto theirs = bound(ours);
        files.remove_all();
        CHECK(fs::exists(ours));
        CHECK_FALSE(fs::exists(other));
    }
    SECTION("nor a file, nor a link to the old one") {
        fs::rename(ours, folder.path / "moved");
        fs::create_symlink("moved", ours);
        fs::remove(other);
        std::ofstream(other) << "x";
        files.remove_all();
        CHECK(fs::is_symlink(ours));
        CHECK(fs::exists(folder.path / "moved"));
        CHECK(fs::exists(other));
    }
    SECTION("nor anything by a process that forgot them") {
        files.forget();
        files.remove_all();
        CHECK(fs::exists(ours));
    }
}

std::size_t descriptors_of(const fs::path& path) {
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
        std::error_code gone;
        count += fs::read_symlink(entry, gone) == path ? 1 : 0;
    }
    return count;
}

TEST_CASE("a lock is of the file that stands at its path, also if that is replaced while one waits", "[os]") {
    const Folder folder;
    const std::string path = folder.path / "lock";
    std::optional<FileLock> held = FileLock::acquire(path, 0).value();
    CHECK_FALSE(FileLock::acquire(path, 0));
    std::atomic<bool> got = false;
    std::thread waiter([&] { got = FileLock::acquire(path, 400).has_value(); });
    while (descriptors_of(path) < 2) std::this_thread::yield();  // it waits for the old file
    fs::remove(path);
    const auto new_one = FileLock::acquire(path, 0);
    CHECK(new_one.has_value());
    held.reset();
    waiter.join();
    CHECK_FALSE(got);
}

TEST_CASE("what a crash left beside a file does not keep it from being replaced", "[os]") {
    const Folder folder;
    const std::string path = folder.path / "known_hosts";
    std::ofstream(path) << "old";
    for (const auto& left : {path + ".new", path + ".new." + std::to_string(::getpid())})
        std::ofstream(left) << "half of wh";
    REQUIRE(replace_file(path, as_bytes("new"), 0640));
    CHECK(read_checked(path, Privacy::trusted, 100).value() == "new");
    CHECK_FALSE(fs::exists(path + ".new"));
    struct stat info{};
    REQUIRE(::stat(path.c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0640);
}

TEST_CASE("a file that may not be edited gets no lock", "[os]") {
    const Folder folder;
    const std::string path = folder.path / "known_hosts";
    std::ofstream(path) << "text";
    SECTION("others may write to it") {
        fs::permissions(path, fs::perms::all);
    }
    SECTION("a link") {
        fs::rename(path, folder.path / "real");
        fs::create_symlink("real", path);
    }
    CHECK_FALSE(LockedFile::lock(path));
    CHECK_FALSE(fs::exists(path + ".lock"));
}

TEST_CASE("a lock that root makes never keeps the file's owner out", "[os]") {
    if (::geteuid() != 0) {
        WARN("SKIPPED: needs root");
        return;
    }
    constexpr unsigned kSomebody = 65534;
    const Folder folder;
    const std::string path = folder.path / "known_hosts";
    std::ofstream(path) << "text";
    REQUIRE(::chown(path.c_str(), kSomebody, kSomebody) == 0);
    (void)LockedFile::lock(path);
    struct stat info{};
    if (::stat((path + ".lock").c_str(), &info) == 0) CHECK(info.st_uid == kSomebody);
    REQUIRE(FileLock::acquire(folder.path / "made", 0, Owner{kSomebody, kSomebody}));
    REQUIRE(::stat((folder.path / "made").c_str(), &info) == 0);
    CHECK(info.st_uid == kSomebody);
}

TEST_CASE("root begins no file in another user's folder, not even its lock", "[os]") {
    if (::geteuid() != 0) {
        WARN("SKIPPED: needs root");
        return;
    }
    constexpr unsigned kSomebody = 65534;
    const Folder folder;
    const std::string path = folder.path / "known_hosts";
    REQUIRE(::chown(folder.path.c_str(), kSomebody, kSomebody) == 0);
    const auto locked = LockedFile::lock(path);
    REQUIRE_FALSE(locked);
    CHECK(locked.error().detail().find("run this as uid 65534") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(path + ".lock"));
    REQUIRE(::chown(folder.path.c_str(), 0, 0) == 0);
    CHECK(LockedFile::lock(path));
}

}  // namespace
}  // namespace curvegate::os
