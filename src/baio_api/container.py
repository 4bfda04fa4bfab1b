"""The composition root: which adapter implements which port, and which use case gets which ports.

The only module, besides the command line, that knows adapters, and the only one that imports dependency-injector.
Override a provider before ``create_app`` to run the same application on other adapters.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

from baio_adapters.biology.toolbox import WorkerToolbox
from baio_adapters.chat_exports import FileReader
from baio_adapters.clock import SystemClock
from baio_adapters.llm import gateway_factory, installed_gateways
from baio_adapters.llm.providers_file import PRESETS, ProviderEntry, ProvidersFileError, read_prices, read_providers
from baio_adapters.metrics.reports import Reporter, Reports
from baio_adapters.oidc.providers import OidcProviders
from baio_adapters.oidc.sign_in_file import Registration, SignInFileError, read_institutions, single_institution
from baio_adapters.passwords import Argon2Hasher, common_passwords
from baio_adapters.secrets import AesGcmBox
from baio_adapters.sql.database import SqlDatabase
from baio_adapters.sql.workers import workers_of
from baio_adapters.tokens import JwtIssuer
from baio_api.lean_imports import lean_imports
from baio_api.settings import Settings, SettingsError
from baio_domain import use_cases
from baio_domain.answering import Answering, AnswerLimits
from baio_domain.api_tokens import LastUses
from baio_domain.authentication import Authenticator
from baio_domain.entities import RetentionPolicy, SessionLimits
from baio_domain.errors import TooManyAnswers, TooManyImports, TooManyKeyTests, TooManyToolRuns
from baio_domain.ports import NO_METRICS, GatewayOptions, LLMGateway
from baio_domain.prices import PriceList
from baio_domain.quotas import AtOnce, Quotas
from baio_domain.retention import Keeper
from baio_domain.session_opening import SessionOpener
from baio_domain.streams import Streams
from baio_domain.text import folded
from baio_domain.tool_runs import ToolRunner
from baio_domain.use_cases import (
    accounts,
    administration,
    api_keys,
    api_tokens,
    branching,
    catalogue,
    completions,
    conversations,
    exports,
    filing,
    health,
    identities,
    imports,
    institutions,
    key_rotation,
    maintenance,
    messaging,
    retention,
    second_factor,
    sequences,
    sessions,
    titles,
    tools,
    usage,
)
from baio_domain.use_cases import settings as chat_settings

# For wiring into web frameworks and for files of settings, which we never use: up to 25 MB of every process.
with lean_imports("fastapi", "pydantic", "starlette", "werkzeug", "yaml"):
    from dependency_injector import containers, providers


def open_gateways(settings: Settings) -> dict[str, LLMGateway]:
    """Every installed gateway, and one for each provider that is switched on or in the file; by the provider's name.

    Raises SettingsError naming every provider that can't be opened, and why.
    """
    base_urls = {"openai": settings.openai_base_url or None}
    model_file = settings.local_model_file
    opened: dict[str, LLMGateway] = {}
    for name, make in installed_gateways().items():
        options = GatewayOptions(
            base_urls.get(name),
            settings.connect_seconds,
            model_file=str(model_file) if model_file else None,
            proxy=settings.proxy_to(base_urls.get(name)),
        )
        with suppress(LookupError):  # one that has nothing to offer here
            gateway = make(options)
            opened[gateway.provider.name] = gateway
    mistakes = []
    for source, entry in _named(settings):
        proxy = settings.proxy_to(entry.base_url) if entry.proxy else None
        options = GatewayOptions(entry.base_url, settings.connect_seconds, entry.provider, entry.quirks, proxy=proxy)
        try:
            if folded(entry.provider.name) in map(folded, opened):
                raise ValueError(f"there is already a provider {entry.provider.name}")  # noqa: TRY301 - one of several
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
            raise _wrong_file(error) from None
        yield from ((settings.providers_file, entry) for entry in entries)


def _wrong_file(error: ProvidersFileError) -> SettingsError:
    return SettingsError(f"BAIO_PROVIDERS_FILE: {'; '.join(str(error).splitlines())}")


def _prices(settings: Settings) -> PriceList:
    """The prices that come with BAiO, and those of the installation, which count more. Raises SettingsError."""
    try:
        own = read_prices(Path(settings.providers_file)) if settings.providers_file else []
    except ProvidersFileError as error:
        raise _wrong_file(error) from None
    return PriceList([*read_prices(PRESETS), *own])


def _answer_limits(settings: Settings) -> AnswerLimits:
    return AnswerLimits(
        first_text_seconds=settings.first_text_seconds,
        between_text_seconds=settings.between_text_seconds,
        answer_seconds=settings.answer_seconds,
        thinking_seconds=settings.thinking_seconds,
        max_chars=settings.max_answer_chars,
    )


def _quotas(settings: Settings) -> Quotas:
    return Quotas(
        stored_bytes=settings.stored_bytes_per_user,
        conversations=settings.conversations_per_user,
        api_keys=settings.api_keys_per_user,
        api_tokens=settings.api_tokens_per_user,
        sessions=settings.sessions_per_user,
        sequences=settings.sequences_per_user,
        sequence_bytes=settings.sequence_bytes_per_user,
    )


def _session_limits(settings: Settings) -> SessionLimits:
    return SessionLimits(timedelta(seconds=settings.session_idle_seconds), timedelta(seconds=settings.session_seconds))


def _longest_token(settings: Settings) -> timedelta | None:
    return timedelta(days=settings.api_token_days) if settings.api_token_days else None


def open_identity_providers(settings: Settings) -> OidcProviders:
    """The institutions of the file and of the environment. Raises SettingsError naming every mistake."""
    try:
        found = read_institutions(Path(settings.sign_in_file)) if settings.sign_in_file else []
    except SignInFileError as error:
        raise SettingsError(f"BAIO_SIGN_IN_FILE: {'; '.join(str(error).splitlines())}") from None
    if settings.sign_in_issuer:
        try:
            found += [_single(settings)]
        except SignInFileError as error:
            raise SettingsError(f"BAIO_SIGN_IN_ISSUER and its settings: {'; '.join(str(error).splitlines())}") from None
    for what in ("name", "issuer"):
        if len({getattr(each.institution, what) for each in found}) < len(found):
            raise SettingsError(f"BAIO_SIGN_IN_ISSUER: an institution of BAIO_SIGN_IN_FILE already has this {what}")
    return OidcProviders(found, settings.sign_in_address, settings.proxy_to)


def _single(settings: Settings) -> Registration:
    return single_institution(
        label=settings.sign_in_label,
        issuer=settings.sign_in_issuer,
        client_id=settings.sign_in_client_id,
        client_secret=settings.sign_in_client_secret,
        scopes=settings.sign_in_scopes.split(),
        new_accounts=settings.sign_in_new_accounts,
    )


def _passwords(settings: Settings) -> bool:
    return settings.password_sign_in == "on"  # noqa: S105 - not a password


def _registration_policy(settings: Settings) -> accounts.RegistrationPolicy:
    return accounts.RegistrationPolicy(
        # Nobody could sign in to an account that has only a password.
        settings.registration if _passwords(settings) else "closed",
        settings.registrations_per_hour_and_network,
        settings.registrations_per_hour,
    )


def _keep_audit(settings: Settings) -> timedelta:
    return timedelta(days=settings.audit_days)


def _retention_policy(settings: Settings) -> RetentionPolicy:
    return RetentionPolicy(timedelta(days=settings.keep_days) if settings.keep_days else None, settings.keep_allowed)


def _leaving_stops(settings: Settings) -> bool:
    return settings.on_disconnect == "stop"


def _tool_notes(settings: Settings) -> bool:
    return settings.tool_notes == "inline"


def open_metrics(settings: Settings) -> "tuple[Reports, str] | None":
    """Serve the metrics, if they are wanted: where workers report, and the address. Raises SettingsError."""
    if settings.metrics_address is None:
        return None
    try:
        from baio_adapters.metrics.measures import Measures  # noqa: PLC0415 - an extra, and 5 MB
        from baio_adapters.metrics.page import MetricsPage  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise SettingsError("BAIO_METRICS needs a package that is missing: pip install 'baio[metrics]'") from None
    host, port = settings.metrics_address
    measures = Measures(version("baio"))
    try:
        page = MetricsPage(host, port, measures)
    except OSError as error:
        raise SettingsError(f"BAIO_METRICS: can't listen on {host}:{port}: {error.strerror or error}") from None
    return Reports(measures), page.address


def report_metrics(container: "Container", connection: Connection) -> None:
    """Let this process report its metrics there."""
    container.metrics.override(providers.Object(Reporter(connection)))


class Container(containers.DeclarativeContainer):
    """One process of BAiO. Every port and every use case is built once, when it is first needed."""

    settings = providers.Dependency(instance_of=Settings)

    # Adapters, each under the name of the port that it implements.
    clock = providers.Singleton(SystemClock)
    metrics = providers.Object(NO_METRICS)
    database = providers.Singleton(SqlDatabase, settings.provided.database, metrics=metrics)
    workers = providers.Singleton(workers_of, settings.provided.database)
    hasher = providers.Singleton(Argon2Hasher, metrics=metrics)
    tokens = providers.Singleton(
        JwtIssuer,
        settings.provided.present_secrets.call(),
        access_seconds=settings.provided.access_token_seconds,
        refresh_seconds=settings.provided.refresh_token_seconds,
    )
    box = providers.Singleton(AesGcmBox, settings.provided.present_secrets.call())
    gateways = providers.Singleton(open_gateways, settings)
    common_passwords = providers.Singleton(common_passwords)
    identity_providers = providers.Singleton(open_identity_providers, settings)
    toolbox = providers.Singleton(WorkerToolbox, metrics=metrics)
    chat_exports = providers.Singleton(FileReader)

    # What several use cases share.
    session_limits = providers.Singleton(_session_limits, settings)
    quotas = providers.Singleton(_quotas, settings)
    prices = providers.Singleton(_prices, settings)
    streams = providers.Singleton(
        Streams,
        database=database,
        clock=clock,
        per_user=settings.provided.streams_per_user,
        answers_per_user=settings.provided.answers_per_user,
    )
    last_uses = providers.Singleton(LastUses, database=database)
    retention_policy = providers.Singleton(_retention_policy, settings)
    keeper = providers.Singleton(Keeper, database=database, clock=clock, policy=retention_policy)
    registration_policy = providers.Singleton(_registration_policy, settings)
    answer_limits = providers.Singleton(_answer_limits, settings)
    authenticator = providers.Singleton(Authenticator, database=database, hasher=hasher, box=box, clock=clock)
    passwords = providers.Callable(_passwords, settings)
    opener = providers.Singleton(
        SessionOpener,
        tokens=tokens,
        limits=session_limits,
        quotas=quotas,
        keep_audit=providers.Callable(_keep_audit, settings),
    )
    answering = providers.Singleton(
        Answering, database=database, clock=clock, limits=answer_limits, workers=workers, metrics=metrics
    )
    runner = providers.Singleton(
        ToolRunner,
        database=database,
        toolbox=toolbox,
        clock=clock,
        notes=providers.Callable(_tool_notes, settings),
        quotas=quotas,
    )
    tool_runs_at_once = providers.Singleton(AtOnce, settings.provided.tool_runs_per_user, TooManyToolRuns)
    reader = providers.Singleton(messaging.AnswerReader, database=database, answering=answering)
    starter = providers.Singleton(
        messaging.AnswerStarter,
        database=database,
        reader=reader,
        answering=answering,
        box=box,
        gateways=gateways,
        clock=clock,
        answers_per_user=settings.provided.answers_per_user,
        quotas=quotas,
        runner=runner,
    )

    # Use cases, each under the name by which a route or a command asks for it.
    register = providers.Singleton(
        accounts.Register,
        database=database,
        hasher=hasher,
        box=box,
        clock=clock,
        common_passwords=common_passwords,
        policy=registration_policy,
    )
    get_info = providers.Singleton(accounts.GetInfo, database=database)
    update_info = providers.Singleton(accounts.UpdateInfo, database=database, clock=clock)
    update_credentials = providers.Singleton(
        accounts.UpdateCredentials,
        database=database,
        hasher=hasher,
        authenticator=authenticator,
        clock=clock,
        common_passwords=common_passwords,
    )
    redeem_reset = providers.Singleton(
        accounts.RedeemReset, database=database, hasher=hasher, clock=clock, common_passwords=common_passwords
    )
    export_data = providers.Singleton(accounts.ExportData, database=database, clock=clock, policy=retention_policy)
    delete_account = providers.Singleton(
        accounts.DeleteAccount, authenticator=authenticator, clock=clock, answering=answering, keeper=keeper
    )

    sign_in = providers.Singleton(
        sessions.SignIn,
        database=database,
        hasher=hasher,
        authenticator=authenticator,
        clock=clock,
        opener=opener,
        passwords=passwords,
    )
    refresh = providers.Singleton(
        sessions.Refresh, database=database, tokens=tokens, clock=clock, limits=session_limits
    )
    validate_token = providers.Singleton(sessions.ValidateToken, database=database, tokens=tokens)
    sign_out = providers.Singleton(sessions.SignOut, database=database, tokens=tokens, clock=clock)
    sign_out_everywhere = providers.Singleton(sessions.SignOutEverywhere, database=database, clock=clock)
    get_sessions = providers.Singleton(sessions.GetSessions, database=database, clock=clock, limits=session_limits)

    create_token = providers.Singleton(
        api_tokens.CreateToken,
        database=database,
        authenticator=authenticator,
        clock=clock,
        quotas=quotas,
        longest=providers.Callable(_longest_token, settings),
    )
    get_tokens = providers.Singleton(api_tokens.GetTokens, database=database)
    revoke_token = providers.Singleton(api_tokens.RevokeToken, database=database, clock=clock)
    admit_token = providers.Singleton(api_tokens.AdmitToken, database=database, clock=clock, uses=last_uses)
    get_sign_in_providers = providers.Singleton(
        institutions.GetSignInProviders, providers=identity_providers, passwords=passwords
    )
    start_sign_in = providers.Singleton(
        institutions.StartSignIn,
        database=database,
        providers=identity_providers,
        box=box,
        clock=clock,
        origins=settings.provided.origins,
    )
    finish_sign_in = providers.Singleton(
        institutions.FinishSignIn, database=database, providers=identity_providers, box=box, clock=clock
    )
    redeem_sign_in = providers.Singleton(
        institutions.RedeemSignIn,
        database=database,
        providers=identity_providers,
        authenticator=authenticator,
        box=box,
        clock=clock,
        opener=opener,
    )
    end_sign_in = providers.Singleton(
        institutions.EndSignIn, database=database, providers=identity_providers, box=box, clock=clock
    )
    get_identities = providers.Singleton(identities.GetIdentities, database=database, providers=identity_providers)
    link_identity = providers.Singleton(
        identities.LinkIdentity, authenticator=authenticator, providers=identity_providers, clock=clock
    )
    unlink_identity = providers.Singleton(
        identities.UnlinkIdentity,
        authenticator=authenticator,
        providers=identity_providers,
        clock=clock,
        passwords=passwords,
    )

    enroll_two_factor = providers.Singleton(second_factor.EnrollTwoFactor, authenticator=authenticator, box=box)
    confirm_two_factor = providers.Singleton(
        second_factor.ConfirmTwoFactor, database=database, authenticator=authenticator, clock=clock
    )
    disable_two_factor = providers.Singleton(second_factor.DisableTwoFactor, authenticator=authenticator, clock=clock)
    get_two_factor = providers.Singleton(second_factor.GetTwoFactor, database=database)

    create_conversation = providers.Singleton(
        conversations.CreateConversation, database=database, box=box, clock=clock, quotas=quotas
    )
    get_conversation = providers.Singleton(conversations.GetConversation, database=database, answering=answering)
    get_conversations = providers.Singleton(conversations.GetConversations, database=database)
    rename_conversation = providers.Singleton(conversations.RenameConversation, database=database)
    find_conversations = providers.Singleton(filing.FindConversations, database=database)
    suggest_title = providers.Singleton(
        titles.SuggestTitle,
        database=database,
        gateways=gateways,
        box=box,
        clock=clock,
        timeout_seconds=settings.provided.first_text_seconds,
        at_once=providers.Singleton(AtOnce, settings.provided.answers_per_user, TooManyAnswers),
    )
    tag_conversation = providers.Singleton(filing.TagConversation, database=database)
    pin_conversation = providers.Singleton(filing.PinConversation, database=database)
    archive_conversation = providers.Singleton(filing.ArchiveConversation, database=database)
    delete_conversations = providers.Singleton(filing.DeleteConversations, database=database, answering=answering)
    get_tags = providers.Singleton(filing.GetTags, database=database)
    delete_conversation = providers.Singleton(conversations.DeleteConversation, database=database, answering=answering)

    keep_conversation = providers.Singleton(retention.KeepConversation, database=database, policy=retention_policy)
    import_conversations = providers.Singleton(
        imports.ImportConversations,
        database=database,
        clock=clock,
        quotas=quotas,
        box=box,
        reader=chat_exports,
        at_once=providers.Singleton(AtOnce, 1, TooManyImports),
    )
    import_for_user = providers.Singleton(imports.ImportForUser, database=database, imports=import_conversations)
    get_retention = providers.Singleton(retention.GetRetention, database=database, policy=retention_policy)

    branch_conversation = providers.Singleton(
        branching.BranchConversation, database=database, box=box, clock=clock, quotas=quotas
    )

    send_message = providers.Singleton(messaging.SendMessage, starter=starter)
    regenerate_answer = providers.Singleton(messaging.RegenerateAnswer, starter=starter)
    follow_answer = providers.Singleton(messaging.FollowAnswer, reader=reader)
    complete_chat = providers.Singleton(completions.CompleteChat, starter=starter)
    get_chat_models = providers.Singleton(completions.GetChatModels, database=database)
    get_chat_model = providers.Singleton(completions.GetChatModel, database=database)
    stop_answer = providers.Singleton(messaging.StopAnswer, database=database, answering=answering)
    leave_answer = providers.Singleton(
        messaging.LeaveAnswer, answering=answering, stops=providers.Callable(_leaving_stops, settings)
    )
    open_stream = providers.Singleton(messaging.OpenStream, streams=streams)
    get_answers = providers.Singleton(messaging.GetAnswers, database=database)
    get_usage = providers.Singleton(usage.GetUsage, database=database, clock=clock, prices=prices)
    report_usage = providers.Singleton(usage.ReportUsage, database=database, clock=clock, prices=prices)

    settings_check = providers.Singleton(chat_settings.SettingsCheck, gateways=gateways, toolbox=toolbox)
    get_settings = providers.Singleton(chat_settings.GetSettings, database=database)
    change_settings = providers.Singleton(
        chat_settings.ChangeSettings, database=database, check=settings_check, quotas=quotas
    )
    create_preset = providers.Singleton(
        chat_settings.CreatePreset, database=database, check=settings_check, clock=clock
    )
    get_presets = providers.Singleton(chat_settings.GetPresets, database=database)
    delete_preset = providers.Singleton(chat_settings.DeletePreset, database=database)

    get_tools = providers.Singleton(tools.GetTools, database=database, toolbox=toolbox)
    run_tool = providers.Singleton(tools.RunTool, runner=runner, box=box, quotas=quotas, at_once=tool_runs_at_once)
    get_tool_calls = providers.Singleton(tools.GetToolCalls, database=database)
    verify_tool_call = providers.Singleton(tools.VerifyToolCall, runner=runner, at_once=tool_runs_at_once)
    delete_tool_call = providers.Singleton(tools.DeleteToolCall, database=database)

    add_sequences = providers.Singleton(
        sequences.AddSequences,
        database=database,
        files=toolbox,
        box=box,
        clock=clock,
        quotas=quotas,
        at_once=tool_runs_at_once,
    )
    get_sequences = providers.Singleton(sequences.GetSequences, database=database)
    get_sequence = providers.Singleton(
        sequences.GetSequence, database=database, files=toolbox, at_once=tool_runs_at_once
    )
    rename_sequence = providers.Singleton(sequences.RenameSequence, database=database)
    delete_sequence = providers.Singleton(sequences.DeleteSequence, database=database)

    export_conversation = providers.Singleton(
        exports.ExportConversation,
        database=database,
        get_answers=get_answers,
        get_tool_calls=get_tool_calls,
        get_sequences=get_sequences,
        files=toolbox,
    )

    add_api_key = providers.Singleton(api_keys.AddApiKey, database=database, box=box, clock=clock, quotas=quotas)
    get_api_keys = providers.Singleton(api_keys.GetApiKeys, database=database)
    rename_api_key = providers.Singleton(api_keys.RenameApiKey, database=database, clock=clock)
    delete_api_key = providers.Singleton(api_keys.DeleteApiKey, database=database, answering=answering, clock=clock)
    check_api_key = providers.Singleton(
        api_keys.CheckApiKey,
        database=database,
        box=box,
        gateways=gateways,
        timeout_seconds=settings.provided.first_text_seconds,
        at_once=providers.Singleton(AtOnce, settings.provided.key_tests_per_user, TooManyKeyTests),
    )
    get_providers = providers.Singleton(catalogue.GetProviders, database=database)
    list_models = providers.Singleton(catalogue.ListModels, gateways=gateways)
    load_catalogue = providers.Singleton(catalogue.LoadCatalogue, database=database)

    create_user = providers.Singleton(
        accounts.CreateUser, database=database, hasher=hasher, clock=clock, common_passwords=common_passwords
    )
    invite = providers.Singleton(administration.Invite, database=database, clock=clock)
    list_users = providers.Singleton(administration.ListUsers, database=database, clock=clock)
    grant_admin = providers.Singleton(administration.GrantAdmin, database=database, clock=clock)
    revoke_admin = providers.Singleton(administration.RevokeAdmin, database=database, clock=clock)
    disable_user = providers.Singleton(administration.DisableUser, database=database, clock=clock)
    enable_user = providers.Singleton(administration.EnableUser, database=database, clock=clock)
    reset_password = providers.Singleton(
        administration.ResetPassword, database=database, hasher=hasher, clock=clock, common_passwords=common_passwords
    )
    offer_password_reset = providers.Singleton(administration.OfferPasswordReset, database=database, clock=clock)
    reset_two_factor = providers.Singleton(administration.ResetTwoFactor, database=database, clock=clock)
    read_audit = providers.Singleton(administration.ReadAudit, database=database, clock=clock)
    rotate_keys = providers.Singleton(key_rotation.RotateKeys, database=database, box=box, clock=clock)
    count_unreadable_secrets = providers.Singleton(key_rotation.CountUnreadableSecrets, database=database, box=box)
    delete_all_data = providers.Singleton(maintenance.DeleteAllData, database=database, clock=clock)
    check_startup = providers.Singleton(health.CheckStartup, database=database)
    check_readiness = providers.Singleton(health.CheckReadiness, database=database, answering=answering)


def in_memory(settings: Settings) -> Container:
    """A process that stores nothing: its data ends with it."""
    from baio_adapters.memory.database import MemoryDatabase  # noqa: PLC0415 - no server needs it
    from baio_adapters.memory.workers import MemoryWorkers  # noqa: PLC0415 - as above

    container = Container(settings=settings)
    container.database.override(providers.Singleton(MemoryDatabase))
    container.workers.override(providers.Singleton(MemoryWorkers))
    return container


def _is_use_case(provider: object) -> bool:
    kind = provider.cls if isinstance(provider, providers.Singleton) else None
    return getattr(kind, "__module__", "").startswith(use_cases.__name__) and "__call__" in vars(kind)


USE_CASES = tuple(name for name, provider in Container.providers.items() if _is_use_case(provider))
"""The names under which routes and commands can ask for a use case."""
