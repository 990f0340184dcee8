#pragma once

#include <array>
#include <string_view>

/// What the programs end with: 0, 1 and those of sysexits.h, which systemd knows by name. Plain numbers,
/// since they go through exit(), and through messages from one program to another.
namespace curvegate::exit_code {

inline constexpr int kOk = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 64;
inline constexpr int kBadData = 65;
inline constexpr int kNoInput = 66;
inline constexpr int kUnavailable = 69;
inline constexpr int kDefect = 70;
inline constexpr int kSystem = 71;
inline constexpr int kCannotCreate = 73;
inline constexpr int kIoError = 74;
inline constexpr int kProtocol = 76;
inline constexpr int kNoPermission = 77;
inline constexpr int kConfig = 78;

struct Meaning {
    std::string_view program;
    int code;
    std::string_view text;
};
/// Every code that a program ends with. docs/documents.py writes the lists of the man pages from it.
inline constexpr auto kMeanings = std::to_array<Meaning>({
    {"curvegate", kOk, "good"},
    {"curvegate", kFailed,
     "the answer is no: a check failed, a probe did not get through, a peer may not use a service"},
    {"curvegate", kUsage, "the command line is wrong"},
    {"curvegate", kBadData, "the data is wrong: no key, not a known_hosts file"},
    {"curvegate", kNoInput, "a file is missing"},
    {"curvegate", kUnavailable, "something is not available, as a daemon that does not run"},
    {"curvegate", kCannotCreate, "a file exists already, or cannot be made"},
    {"curvegate", kIoError, "the disk, or standard input and output"},
    {"curvegate", kProtocol,
     "connect: the other end has another key, does not let us in, or broke off. Of several targets that fail "
     "for different reasons, 76 comes before 78, and 78 before 69"},
    {"curvegate", kNoPermission, "permission"},
    {"curvegate", kConfig, "the configuration, a key file or a nonce counter"},
    {"curvegated", kOk, "ended in peace"},
    {"curvegated", kFailed, "the drain's deadline came, or a second TERM"},
    {"curvegated", kUsage, "the command line is wrong"},
    {"curvegated", kNoInput, "a file is missing"},
    {"curvegated", kUnavailable, "something is not available: a port, the vault, locked memory, the sandbox"},
    {"curvegated", kSystem, "the system lacks something, as descriptors"},
    {"curvegated", kIoError, "the disk"},
    {"curvegated", kNoPermission, "permission"},
    {"curvegated", kConfig, "the configuration, known_hosts, a key or a counter"},
    {"curvegate-vault", kOk, "ended by a signal, or with curvegated"},
    {"curvegate-vault", kUsage, "the command line is wrong"},
    {"curvegate-vault", kNoInput, "a file is missing"},
    {"curvegate-vault", kUnavailable,
     "locked memory, the sandbox, or the socket is not available, or another vault has the counter"},
    {"curvegate-vault", kDefect, "a defect of the program"},
    {"curvegate-vault", kSystem, "the system lacks something, as descriptors"},
    {"curvegate-vault", kIoError, "the disk"},
    {"curvegate-vault", kNoPermission, "permission"},
    {"curvegate-vault", kConfig, "a key, a counter or known_hosts is wrong"},
});

}  // namespace curvegate::exit_code
