#include "vault/known_hosts_file.hpp"

#include "os/file.hpp"

#include <unistd.h>

#include <cerrno>
#include <utility>

namespace curvegate::vault {
namespace {

constexpr std::size_t kLongestKnownHosts = std::size_t{64} * 1024 * 1024;
constexpr std::chrono::seconds kAgain{5};  // what could not be used is read again, changed or not
constexpr std::int64_t kNanoseconds = 1'000'000'000;

}  // namespace

Result<std::unique_ptr<KnownHostsFile>> KnownHostsFile::open(std::string path, Say say) {
    std::unique_ptr<KnownHostsFile> file(new KnownHostsFile(std::move(path), std::move(say)));
    auto registry = file->read();
    if (!registry) return std::unexpected(registry.error());
    file->registry_.emplace(std::move(*registry));
    return file;
}

bool KnownHostsFile::is_listed(const crypto::PublicKey& server, WallTime now) {
    struct stat info{};
    std::optional<Stamp> present;
    if (::stat(path_.c_str(), &info) == 0) present = stamp_of(info);
    const bool again = !registry_ && (now >= refused_at_ + kAgain || now < refused_at_);
    if (present != stamp_ || again) {
        auto fresh = read();
        registry_.reset();
        if (fresh) {
            registry_.emplace(std::move(*fresh));
            say_("read " + path_ + " again");
        } else {
            // Not read at each request, but the disk may have failed for a moment only.
            if (present != stamp_)
                say_(fresh.error().text() +
                     "; until it is mended no key counts as listed and no vouch is made");
            stamp_ = present;
            refused_at_ = now;
        }
    }
    return registry_ && registry_->is_trusted_server(server, now);
}

KnownHostsFile::Stamp KnownHostsFile::stamp_of(const struct stat& info) noexcept {
    return {info.st_dev, info.st_ino, info.st_size, info.st_mtim.tv_sec * kNanoseconds + info.st_mtim.tv_nsec,
            info.st_ctim.tv_sec * kNanoseconds + info.st_ctim.tv_nsec};
}

Result<registry::Registry> KnownHostsFile::read() {
    const auto fd = os::open_linked(path_);
    if (!fd) {
        const bool missing = ::access(path_.c_str(), F_OK) != 0 && errno == ENOENT;
        return fail(missing ? KnownHostsErrc::missing : KnownHostsErrc::unusable, fd.error().detail());
    }
    // Before the content: a change in between gives another stamp and so another reading.
    struct stat info{};
    if (::fstat(fd->get(), &info) != 0) return fail(KnownHostsErrc::unusable, path_);
    const auto text = os::read_all(fd->get(), kLongestKnownHosts, path_);
    if (!text) return fail(KnownHostsErrc::unusable, text.error().detail());
    auto entries = registry::parse_known_hosts(*text, path_);
    if (!entries) return fail(KnownHostsErrc::unusable, entries.error().front().message());
    stamp_ = stamp_of(info);
    return registry::Registry(std::move(*entries));
}

}  // namespace curvegate::vault
