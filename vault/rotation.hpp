#pragma once

#include "os/socket.hpp"
#include "vault/counter_store.hpp"
#include "vault/nonce_source.hpp"
#include "vault/protocol/control.hpp"
#include "vault/rotation_store.hpp"
#include "vault/service.hpp"

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace curvegate::vault {

/// The counter of a key and the nonces made from it. Stays where it is: the service points to it.
struct KeyNonces {
    std::unique_ptr<CounterStore> counter;
    std::optional<PermutedNonces> nonces;

    /// Errors: crypto secrets_full, memory_not_locked.
    [[nodiscard]] Result<Service::Key> serve(LongTermKey key, std::unique_ptr<CounterStore> from,
                                             RandomSource& random);
};

/// Carries out what comes over the control socket: each step is made durable first and then put into force,
/// so that a crash leaves the state before it or the one after it.
class Rotation {
  public:
    using Say = std::function<void(std::string_view line)>;
    /// What a rotation works on; all of it must outlive it.
    struct Parts {
        Service* service;
        crypto::SecretPool* pool;
        RandomSource* random;
        std::string state_dir;                        ///< empty: beside each key file
        std::string server_key;                       ///< the path of the configured key
        std::optional<crypto::PublicKey> client_key;  ///< which no server key may be
        Say say;
    };
    /// What the server that answers requests has to know.
    struct Hooks {
        std::function<void(NonceCounter&)> counter_added;
        std::function<void(NonceCounter&)> counter_dropped;
        std::function<void(KeySlot)> key_compromised;
    };

    Rotation(Parts parts, std::unique_ptr<RotationStore> store,
             std::array<std::unique_ptr<KeyNonces>, 2> live);
    void set_hooks(Hooks hooks) { hooks_ = std::move(hooks); }

    /// `handed`: the descriptors that came along. A request that changes something is refused unless the
    /// first of them is of the state file, opened for writing. That is the right to rotate: the front, which
    /// may have the vault's own uid, can open no file (PROTOCOL 6.7).
    [[nodiscard]] ControlReply handle(const ControlRequest& request, std::vector<os::UniqueFd> handed,
                                      Instant now);

    [[nodiscard]] const RotationState& state() const noexcept { return store_->state(); }
    [[nodiscard]] std::vector<NonceCounter*> counters() const;

  private:
    /// Empty if the step was taken, and otherwise why it was not.
    using Refusal = std::string;
    [[nodiscard]] Refusal carry_out(const ControlRequest& request, std::vector<os::UniqueFd> handed);
    [[nodiscard]] Refusal start(const ControlRequest& request, std::vector<os::UniqueFd> handed);
    [[nodiscard]] Refusal switch_over();
    [[nodiscard]] Refusal drop(const Step& step);
    [[nodiscard]] Refusal compromised();
    [[nodiscard]] Refusal commit(const Step& step);
    void drop_second();
    [[nodiscard]] ControlKey describe_key(const RotationKey& key, KeyPart part, Instant now) const;

    Parts parts_;
    std::unique_ptr<RotationStore> store_;
    std::array<std::unique_ptr<KeyNonces>, 2> live_;  // current, second: as in the service
    Hooks hooks_;
};

}  // namespace curvegate::vault
