"""Settings: what is allowed, which source wins, and what a mistake is told."""

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from cli.settings import Settings, Value, as_environment, table, text_of
from cli.settings_load import load
from cli.settings_parse import SettingsError, parse

ROWS = {row.name: row for row in table()}
NUMBERS = [row for row in ROWS.values() if row.type in (int, float)]


def reason(options=None, environment=None, config=None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(options or {}, environment or {}, config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_any_source_every_setting_has_its_default():
    loaded = load({}, {})
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}


def test_every_default_passes_its_own_rule():
    for row in ROWS.values():
        assert parse(row, text_of(row.default), row.variable) == row.default


def test_an_option_beats_a_variable_beats_the_file_beats_the_default(tmp_path):
    file = tmp_path / "npu-proxy.toml"
    file.write_text("port = 1001\nllm_slots = 3\nprefix_caching = true\n")
    variables = {"NPU_PROXY_PORT": "1002", "NPU_PROXY_LLM_SLOTS": "4"}

    loaded = load({"port": "1003"}, variables, file)

    assert (loaded.settings.port, loaded.origins["port"]) == (1003, "option --port")
    assert (loaded.settings.llm_slots, loaded.origins["llm_slots"]) == (4, "variable NPU_PROXY_LLM_SLOTS")
    assert (loaded.settings.prefix_caching, loaded.origins["prefix_caching"]) == (True, str(file))
    assert (loaded.settings.max_queued, loaded.origins["max_queued"]) == (10000, "default")


def test_the_file_is_the_option_else_the_variable_else_the_one_in_the_config_folder(tmp_path):
    for folder, port in (("option", 1), ("variable", 2), ("home/npu-proxy", 3)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.toml").write_text(f"port = {port}\n")
    home = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
    variable = home | {"NPU_PROXY_CONFIG": str(tmp_path / "variable" / "config.toml")}

    assert load({}, variable, tmp_path / "option" / "config.toml").settings.port == 1
    assert load({}, variable).settings.port == 2
    assert load({}, home).settings.port == 3


def test_redis_url_is_an_alias_that_its_own_variable_beats():
    alias = {"REDIS_URL": "redis://alias"}
    assert load({}, alias).settings.redis_url == "redis://alias"
    both = alias | {"NPU_PROXY_REDIS_URL": ""}
    assert load({}, both).settings.redis_url == ""


@pytest.mark.parametrize("text", ["true", "1", "yes", "on", "TRUE", " On "])
def test_a_switch_can_be_turned_on_in_several_words(text):
    assert load({}, {"NPU_PROXY_PREFIX_CACHING": text}).settings.prefix_caching is True


@pytest.mark.parametrize("text", ["false", "0", "no", "off", "No"])
def test_a_switch_can_be_turned_off_in_several_words(text):
    assert load({}, {"NPU_PROXY_PREFIX_CACHING": text}).settings.prefix_caching is False


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("NPU_PROXY_PORT", "http", "a whole number from 1 to 65535"),
        ("NPU_PROXY_PORT", "0", "a whole number from 1 to 65535"),
        ("NPU_PROXY_PORT", "", "a whole number from 1 to 65535"),
        ("NPU_PROXY_KEEPALIVE_S", "nan", "a number from 0.1 to 60 s"),
        ("NPU_PROXY_LLM_DEVICE", "TPU", "NPU, GPU, CPU"),
        ("NPU_PROXY_LLM_MODEL", "../../etc", "a model's name"),
        ("NPU_PROXY_REDIS_URL", "localhost:6379", "redis://"),
        ("NPU_PROXY_LOG_LEVEL", "chatty", "one of debug, info, warning, error"),
        ("NPU_PROXY_PREFIX_CACHING", "maybe", "true or false"),
        ("NPU_PROXY_DATA_DIR", "", "the path of a folder"),
    ],
)
def test_a_bad_value_is_told_with_its_variable_and_what_is_allowed(variable, value, allowed):
    told = reason(environment={variable: value})
    assert told.startswith(f"{variable}={value}: must be ")
    assert allowed in told


def test_a_bad_value_is_told_with_its_option_or_its_file(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("port = [1, 2]\n")
    assert reason(config=file).startswith(f"{file}: port=[1, 2]: must be a whole number")
    assert reason(options={"port": "x"}).startswith("--port=x: must be")


def test_an_unknown_name_is_refused_and_the_nearest_one_suggested(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('llm_modell = "x"\n')
    assert reason(config=file) == f"unknown setting in {file}: llm_modell; did you mean llm_model?"
    told = reason(environment={"NPU_PROXY_PROT": "1"})
    assert told == "unknown variable: NPU_PROXY_PROT; did you mean NPU_PROXY_PORT?"


def test_a_persons_own_key_may_stand_beside_the_settings():
    assert load({}, {"NPU_PROXY_KEY": "npk_x"}).settings == Settings()


def test_a_file_that_is_missing_or_no_toml_is_told(tmp_path):
    assert "no such settings file" in reason(config=tmp_path / "missing.toml")
    (tmp_path / "bad.toml").write_text("port 1")
    assert "is no TOML" in reason(config=tmp_path / "bad.toml")


@given(st.sampled_from(NUMBERS), st.data())
def test_a_number_is_taken_exactly_within_its_bounds(row, data):
    number = st.integers() if row.type is int else st.floats()
    value = data.draw(number)
    if row.rule.minimum <= value <= row.rule.maximum:
        assert parse(row, repr(value), row.variable) == value
    else:
        with pytest.raises(SettingsError):
            parse(row, repr(value), row.variable)


def any_value(row) -> st.SearchStrategy[Value]:
    low, high = row.rule.minimum, row.rule.maximum
    if row.rule.choices:
        return st.sampled_from(row.rule.choices)
    if row.rule.pattern:
        return st.from_regex(row.rule.pattern, fullmatch=True).filter(lambda text: text == text.strip())
    if row.type is int:
        return st.integers(int(low), int(high))
    if row.type is float:
        return st.floats(low, high)
    return st.booleans() if row.type is bool else st.just(row.default)


@limits(deadline=None, max_examples=50)
@given(st.fixed_dictionaries({name: any_value(row) for name, row in ROWS.items()}))
def test_a_child_process_finds_exactly_the_settings_of_its_parent(values):
    settings = Settings(**values)
    assert load({}, dict(as_environment(settings))).settings == settings
