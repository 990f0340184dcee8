#include "vault/counter_store.hpp"

#include "vault/private_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cstdio>

#include <cerrno>
#include <cstring>
#include <span>

namespace curvegate::vault {
namespace {

constexpr std::size_t kNameDigits = 16;

CounterErrc code_of(FileFault fault) {
    switch (fault) {
        case FileFault::missing: return CounterErrc::missing;
        case FileFault::denied: return CounterErrc::denied;
        case FileFault::unreadable: return CounterErrc::unreadable;
        case FileFault::not_regular: return CounterErrc::not_regular;
        case FileFault::wrong_owner: return CounterErrc::wrong_owner;
        case FileFault::wrong_mode: return CounterErrc::wrong_mode;
    }
    return CounterErrc::unreadable;
}

/// The same error with the path in front.
Error named(const Error& error, const std::string& path) {
    for (const auto code : {CounterErrc::damaged, CounterErrc::other_key, CounterErrc::later_version,
                            CounterErrc::exhausted, CounterErrc::cannot_write}) {
        if (error.is(code) && error.detail().empty()) return {code, path};
    }
    return error;
}

/// Why `path` cannot be written, or made: it is not ours, or the disk does not let us.
CounterErrc why_not_written(const std::string& path) {
    const bool there = ::access(path.c_str(), F_OK) == 0;
    const bool refused = ::access(there ? path.c_str() : os::folder_of(path).c_str(), W_OK) != 0;
    return refused && errno == EACCES ? CounterErrc::denied : CounterErrc::cannot_write;
}

Result<> folder_of_counter(const std::string& path) {
    if (is_folder_missing(path)) return fail(CounterErrc::no_folder, os::folder_of(path));
    return {};
}

Result<os::FileLock> lock(const std::string& path, unsigned wait) {
    const std::string file = path + ".lock";
    auto held = os::FileLock::acquire(file, wait);
    if (held) return held;
    // FileLock says the same for a lock that is held and one that cannot be made: ask for the latter.
    if (::access(file.c_str(), W_OK) != 0) return fail(why_not_written(file), held.error().detail());
    return fail(CounterErrc::in_use, path);
}

Result<> read_slot(int fd, std::size_t index, MutableBytes into, const std::string& path) {
    auto at = static_cast<off_t>(index * kCounterSlotDistance);
    while (!into.empty()) {
        const ssize_t got = ::pread(fd, into.data(), into.size(), at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail(CounterErrc::unreadable, path + ": " + std::strerror(errno));
        if (got == 0) return fail(CounterErrc::too_short, path);
        into = into.subspan(static_cast<std::size_t>(got));
        at += got;
    }
    return {};
}

struct Opened {
    os::UniqueFd fd;
    CounterState state;
};

/// Everything that can be said about a file without changing it.
Result<Opened> inspect(os::UniqueFd fd, const std::string& path, const crypto::PublicKey& key) {
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0) return fail(CounterErrc::unreadable, path);
    if (info.st_size < static_cast<off_t>(kCounterFileSize)) return fail(CounterErrc::too_short, path);
    CounterSlots slots{};
    for (std::size_t i = 0; i < slots.size(); ++i) {
        if (auto read = read_slot(fd.get(), i, slots[i], path); !read) return fail(std::move(read));
    }
    auto state = choose_counter_slot(slots, key);
    if (!state) return std::unexpected(named(state.error(), path));
    return Opened{std::move(fd), *state};
}

Result<Opened> inspect(const std::string& path, const crypto::PublicKey& key) {
    auto fd = open_private(path, O_RDWR);
    if (!fd) return fail(code_of(fd.error().fault), fd.error().detail);
    return inspect(std::move(*fd), path, key);
}

/// Gives `path` the first free name of `path.old.1`, `path.old.2`...
Result<std::string> move_aside(const std::string& path) {
    constexpr unsigned kMost = 1000;
    for (unsigned i = 1; i <= kMost; ++i) {
        std::string aside = path + ".old." + std::to_string(i);
        // Without replacing: a file that was moved aside before may still be wanted.
        if (::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, aside.c_str(), RENAME_NOREPLACE) == 0) return aside;
        if (errno != EEXIST) break;
    }
    auto why = path + ": " + std::strerror(errno);
    return fail(why_not_written(path), std::move(why));
}

Result<> create(const std::string& path, const crypto::PublicKey& key, RandomSource& random) {
    CounterSalt salt;
    random.fill(salt.bytes);
    auto created = os::create_file(path, new_counter_file(key, salt), 0600);
    if (!created) return fail(why_not_written(path), created.error().detail());
    return {};
}

}  // namespace

std::string counter_path(const std::string& state_dir, const crypto::PublicKey& key) {
    return state_dir + "/nonce." +
           crypto::encode_key(key.bytes(), crypto::KeyFormat::hex).substr(0, kNameDigits);
}

Result<std::unique_ptr<CounterStore>> CounterStore::open(const std::string& path,
                                                         const crypto::PublicKey& key, unsigned lock_wait) {
    if (auto there = folder_of_counter(path); !there) return fail(std::move(there));
    // A missing counter is told before a lock file is made for it.
    if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) return fail(CounterErrc::missing, path);
    auto held = lock(path, lock_wait);
    if (!held) return fail(std::move(held));
    auto opened = inspect(path, key);
    if (!opened) return fail(std::move(opened));
    std::unique_ptr<CounterStore> store(
        new CounterStore(path, std::move(*held), std::move(opened->fd), opened->state));
    if (auto reserved = store->counter_.reserve(); !reserved)
        return std::unexpected(named(reserved.error(), path));
    return store;
}

Result<std::unique_ptr<CounterStore>> CounterStore::adopt(const std::string& path,
                                                          const crypto::PublicKey& key, os::UniqueFd file,
                                                          os::UniqueFd lock) {
    for (const os::UniqueFd* fd : {&file, &lock}) {
        if (auto checked = check_private(fd->get(), path); !checked)
            return fail(code_of(checked.error().fault), checked.error().detail);
    }
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return fail(CounterErrc::in_use, path);
    auto opened = inspect(std::move(file), path, key);
    if (!opened) return fail(std::move(opened));
    std::unique_ptr<CounterStore> store(
        new CounterStore(path, std::move(lock), std::move(opened->fd), opened->state));
    if (auto reserved = store->counter_.reserve(); !reserved)
        return std::unexpected(named(reserved.error(), path));
    return store;
}

Result<> CounterStore::write_slot(std::size_t index, FixedBytes<kCounterSlotSize> slot) {
    Bytes rest = slot;
    auto at = static_cast<off_t>(index * kCounterSlotDistance);
    while (!rest.empty()) {
        const ssize_t wrote = ::pwrite(fd_.get(), rest.data(), rest.size(), at);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return fail(CounterErrc::cannot_write, path_ + ": write: " + std::strerror(errno));
        rest = rest.subspan(static_cast<std::size_t>(wrote));
        at += wrote;
    }
    // Not repeated whatever it says: see NonceCounter.
    if (::fdatasync(fd_.get()) != 0) {
        return fail(CounterErrc::cannot_write, path_ + ": fdatasync: " + std::strerror(errno));
    }
    return {};
}

Result<CounterInitResult> init_counter(const std::string& path, const crypto::PublicKey& key,
                                       RandomSource& random, unsigned lock_wait) {
    if (auto there = folder_of_counter(path); !there) return fail(std::move(there));
    auto held = lock(path, lock_wait);
    if (!held) return fail(std::move(held));
    CounterInitResult result{CounterInit::created, {}};
    if (auto present = inspect(path, key)) {
        return CounterInitResult{CounterInit::already_good, {}};
    } else if (const Error& why = present.error(); why.is(CounterErrc::too_short) ||
                                                   why.is(CounterErrc::damaged) ||
                                                   why.is(CounterErrc::exhausted)) {
        auto aside = move_aside(path);
        if (!aside) return fail(std::move(aside));
        result = {CounterInit::replaced, std::move(*aside)};
    } else if (!why.is(CounterErrc::missing)) {
        return fail(std::move(present));
    }
    if (auto created = create(path, key, random); !created) return fail(std::move(created));
    return result;
}

}  // namespace curvegate::vault
