"""The composition root: which adapter plays which port, and which use case gets which ports.

The only module, besides the command line, that knows adapters, and the only one that imports dependency-injector.
Override a provider before ``create_app`` to run the same application on other adapters.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from dependency_injector import containers, providers

from baio_adapters.clock import SystemClock
from baio_adapters.llm import gateway_factory, installed_gateways
from baio_adapters.llm.providers_file import PRESETS, ProviderEntry, ProvidersFileError, read_providers
from baio_adapters.passwords import Argon2Hasher, common_passwords
from baio_adapters.secrets import AesGcmBox
from baio_adapters.sql.database import SqlDatabase
from baio_adapters.tokens import JwtIssuer
from baio_api.settings import Settings, SettingsError
from baio_domain.answering import Answering, AnswerLimits
from baio_domain.authentication import Authenticator
from baio_domain.entities import SessionLimits, folded
from baio_domain.ports import GatewayOptions, LLMGateway
from baio_domain.use_cases import (
    accounts,
    administration,
    conversations,
    health,
    messaging,
    second_factor,
    sessions,
)
from baio_domain.use_cases import providers as keys


def open_gateways(settings: Settings) -> dict[str, LLMGateway]:
    """Every installed gateway, and one for each provider that is switched on or in the file; by the provider's name.

    Raises SettingsError naming every provider that can't be had, and why.
    """
    base_urls = {"openai": settings.openai_base_url or None}
    model_file = settings.local_model_file
    opened: dict[str, LLMGateway] = {}
    for name, make in installed_gateways().items():
        options = GatewayOptions(
            base_urls.get(name), settings.connect_seconds, model_file=str(model_file) if model_file else None
        )
        with suppress(LookupError):  # one that has nothing to offer here
            gateway = make(options)
            opened[gateway.provider.name] = gateway
    mistakes = []
    for source, entry in _named(settings):
        options = GatewayOptions(entry.base_url, settings.connect_seconds, entry.provider, entry.quirks)
        try:
            if folded(entry.provider.name) in map(folded, opened):
                raise ValueError(f"there is a provider {entry.provider.name} already")  # noqa: TRY301 - one of several
            opened[entry.provider.name] = gateway_factory(entry.protocol)(options)
        except (LookupError, ValueError) as error:
            mistakes.append(f"{source} line {entry.line}: {error}")
    if mistakes:
        raise SettingsError("; ".join(mistakes))
    return opened


def _named(settings: Settings) -> Iterator[tuple[str, ProviderEntry]]:
    """The providers that the settings name, each with where it is described."""
    ready = {folded(entry.provider.name): entry for entry in read_providers(PRESETS)}
    wanted = [folded(name.strip()) for name in settings.providers.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in ready]:
        raise SettingsError(f"BAIO_PROVIDERS: unknown provider {', '.join(unknown)}; available: {', '.join(ready)}")
    yield from (("BAIO_PROVIDERS", ready[name]) for name in dict.fromkeys(wanted))
    if settings.providers_file:
        try:
            entries = read_providers(Path(settings.providers_file))
        except ProvidersFileError as error:
            raise SettingsError(f"BAIO_PROVIDERS_FILE: {'; '.join(str(error).splitlines())}") from None
        yield from ((settings.providers_file, entry) for entry in entries)


def _limits(settings: Settings) -> AnswerLimits:
    return AnswerLimits(
        first_text_seconds=settings.first_text_seconds,
        between_text_seconds=settings.between_text_seconds,
        answer_seconds=settings.answer_seconds,
        max_chars=settings.max_answer_chars,
    )


def _session_limits(settings: Settings) -> SessionLimits:
    return SessionLimits(timedelta(seconds=settings.session_idle_seconds), timedelta(seconds=settings.session_seconds))


def _keep_audit(settings: Settings) -> timedelta:
    return timedelta(days=settings.audit_days)


def _leaving_stops(settings: Settings) -> bool:
    return settings.on_disconnect == "stop"


class Container(containers.DeclarativeContainer):
    """One process of BAiO."""

    settings = providers.Dependency(instance_of=Settings)

    # Adapters.
    clock = providers.Singleton(SystemClock)
    database = providers.Singleton(SqlDatabase, settings.provided.database)
    hasher = providers.Singleton(Argon2Hasher)
    tokens = providers.Singleton(
        JwtIssuer,
        settings.provided.secrets.call(),
        access_seconds=settings.provided.access_token_seconds,
        refresh_seconds=settings.provided.refresh_token_seconds,
    )
    box = providers.Singleton(AesGcmBox, settings.provided.secrets)
    gateways = providers.Singleton(open_gateways, settings)
    refused_passwords = providers.Singleton(common_passwords)

    authenticator = providers.Singleton(Authenticator, database, hasher, box, clock)
    session_limits = providers.Singleton(_session_limits, settings)
    answering = providers.Singleton(Answering, database, clock, providers.Singleton(_limits, settings))

    # Use cases, each under the name by which a route asks for it.
    register = providers.Singleton(accounts.Register, database, hasher, clock, refused_passwords)
    sign_in = providers.Singleton(
        sessions.SignIn,
        database,
        hasher,
        tokens,
        authenticator,
        clock,
        session_limits,
        providers.Callable(_keep_audit, settings),
    )
    refresh = providers.Singleton(sessions.Refresh, database, tokens, clock, session_limits)
    validate_token = providers.Singleton(sessions.ValidateToken, database, tokens)
    sign_out = providers.Singleton(sessions.SignOut, database, tokens, clock)
    sign_out_everywhere = providers.Singleton(sessions.SignOutEverywhere, database, clock)
    get_sessions = providers.Singleton(sessions.GetSessions, database, clock, session_limits)
    enroll_two_factor = providers.Singleton(second_factor.EnrollTwoFactor, authenticator, box)
    confirm_two_factor = providers.Singleton(second_factor.ConfirmTwoFactor, database, authenticator, clock)
    disable_two_factor = providers.Singleton(second_factor.DisableTwoFactor, authenticator, clock)
    get_two_factor = providers.Singleton(second_factor.GetTwoFactor, database)
    get_info = providers.Singleton(accounts.GetInfo, database)
    update_info = providers.Singleton(accounts.UpdateInfo, database, clock)
    update_credentials = providers.Singleton(
        accounts.UpdateCredentials, database, hasher, authenticator, clock, refused_passwords
    )
    redeem_reset = providers.Singleton(accounts.RedeemReset, database, hasher, clock, refused_passwords)
    export_data = providers.Singleton(accounts.ExportData, database, clock)
    delete_account = providers.Singleton(accounts.DeleteAccount, authenticator, clock, answering)
    list_users = providers.Singleton(administration.ListUsers, database)
    disable_user = providers.Singleton(administration.DisableUser, database, clock)
    enable_user = providers.Singleton(administration.EnableUser, database, clock)
    reset_password = providers.Singleton(administration.ResetPassword, database, hasher, clock, refused_passwords)
    offer_password_reset = providers.Singleton(administration.OfferPasswordReset, database, clock)
    reset_two_factor = providers.Singleton(administration.ResetTwoFactor, database, clock)
    read_audit = providers.Singleton(administration.ReadAudit, database)
    note = providers.Singleton(administration.RecordAdminAction, database, clock)
    create_conversation = providers.Singleton(conversations.CreateConversation, database, box, clock)
    get_conversation = providers.Singleton(conversations.GetConversation, database)
    get_conversations = providers.Singleton(conversations.GetConversations, database)
    rename_conversation = providers.Singleton(conversations.RenameConversation, database)
    delete_conversation = providers.Singleton(conversations.DeleteConversation, database, answering)
    add_api_key = providers.Singleton(keys.AddApiKey, database, box, clock)
    get_api_keys = providers.Singleton(keys.GetApiKeys, database)
    rename_api_key = providers.Singleton(keys.RenameApiKey, database, clock)
    delete_api_key = providers.Singleton(keys.DeleteApiKey, database, answering, clock)
    check_api_key = providers.Singleton(keys.CheckApiKey, database, box, gateways, settings.provided.first_text_seconds)
    rotate_keys = providers.Singleton(keys.RotateKeys, database, box)
    get_providers = providers.Singleton(keys.GetProviders, database)
    load_catalogue = providers.Singleton(keys.LoadCatalogue, database)
    asker = providers.Singleton(
        messaging.AnswerStarter, answering, box, gateways, clock, settings.provided.answers_per_user
    )
    send_message = providers.Singleton(messaging.SendMessage, database, asker)
    regenerate_answer = providers.Singleton(messaging.RegenerateAnswer, database, asker)
    follow_answer = providers.Singleton(messaging.FollowAnswer, database, answering)
    stop_answer = providers.Singleton(messaging.StopAnswer, database, answering)
    get_answers = providers.Singleton(messaging.GetAnswers, database)
    get_usage = providers.Singleton(messaging.GetUsage, database, clock)
    leave_answer = providers.Singleton(messaging.LeaveAnswer, answering, providers.Callable(_leaving_stops, settings))
    check_readiness = providers.Singleton(health.CheckReadiness, database, answering)


USE_CASES = (
    "register", "sign_in", "refresh", "validate_token", "sign_out", "sign_out_everywhere", "get_sessions",
    "enroll_two_factor", "confirm_two_factor", "disable_two_factor", "get_two_factor", "get_info", "update_info",
    "update_credentials", "redeem_reset", "export_data", "delete_account", "create_conversation",
    "get_conversation", "get_conversations", "rename_conversation", "delete_conversation", "add_api_key",
    "get_api_keys", "rename_api_key", "delete_api_key", "check_api_key", "get_providers", "send_message",
    "regenerate_answer",
    "follow_answer", "stop_answer", "get_answers", "get_usage", "leave_answer", "check_readiness",
)  # fmt: skip
"""What routes may ask for."""
